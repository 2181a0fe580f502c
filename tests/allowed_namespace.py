"""Which namespace this machine allows. This module loads no numpy, because fork() would lose numpy's threads."""

from connbench.linux.namespace import best_namespace

NAMESPACE, REASON = best_namespace()
