"""Which namespace this machine allows: asked in a module that loads no numpy, whose threads fork() would lose."""

from connbench.linux.namespace import best_namespace

NAMESPACE, REASON = best_namespace()
