"""Which strategy keeps N connections fast on a kernel, with figures, reasons and code to paste.

`scenario` has the question and the answer as values, `kernels` what a kernel offers, `candidates` the simulated
strategies, `advice` the rules, and `snippets` the code.
"""
