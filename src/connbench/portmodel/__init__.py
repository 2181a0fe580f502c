"""A model of the kernel's port search: the port that each attempt would get, and the ports that it would probe.

`kernel_search` has the searches, of the kinds that `algorithm` names. `simulation` runs a round's plan through one;
`prediction` does so for a plan or beside a result. `calibration` fits what a probe costs, `agreement` compares a
prediction with the measurement, and `variants` tries other settings. `next_search` says what one more search probes,
given the ports in use.
"""
