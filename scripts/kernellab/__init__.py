"""The kernel lab: boots real kernels, runs connbench in each, and puts the results side by side.

`kernels` fetches Debian's kernels, `image` packs connbench into an initramfs, `guests` boots one with the other,
`table` and `chart` show what came back, `cli` is the command. Nothing of it is installed with connbench.
"""
