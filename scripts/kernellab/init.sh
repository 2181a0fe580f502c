#!/.connbench-lab/busybox sh
# The first program of a guest: mounts what connbench reads, runs the job, hands back its results as an archive, and
# switches the machine off. $lab_results, from the kernel's command line, says where the archive goes.
# It mounts nothing over a folder that the image fills: a checkout may lie in /tmp, in /dev/shm, anywhere but /proc and /sys.
lab=/.connbench-lab
b=$lab/busybox
$b mkdir -p $lab/dev $lab/host $lab/results /dev/pts /etc /bin /tmp
$b mount -t devtmpfs dev $lab/dev
$b cp -a $lab/dev/. /dev/
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t tracefs trace /sys/kernel/tracing 2>/dev/null # user-mode-linux has neither
$b mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null
$b mount -t devpts pts /dev/pts
[ -e /bin/sh ] || $b ln -sf $b /bin/sh
$b ip link set lo up
# Until it is seeded a kernel makes each random number anew, at 40,000 instructions a connect(). This waits for it.
$b head -c 1 /dev/random >/dev/null
# A kernel draws the table that its port search begins by at its very first connect(), in six million instructions.
for address in 127.0.0.1 ::1; do $b nc "$address" 9 </dev/null 2>/dev/null; done
ulimit -n 1048576
export HOME=/tmp LANG=C.UTF-8 PATH=/bin:/usr/bin PYTHONHASHSEED=0
$b echo "kernel-lab: up $($b cut -d' ' -f1 /proc/uptime)"
{
  $b sh $lab/job </dev/null
  $b echo $? >$lab/results/status
} 2>&1 | $b tee $lab/results/output.txt
$b cut -d' ' -f1 /proc/uptime >$lab/results/uptime
$b uname -r >$lab/results/release
$b echo "kernel-lab: done $($b cat $lab/results/uptime)"
case $lab_results in
  /dev/*) $b stty -F "$lab_results" raw -echo; $b tar -c -C $lab/results . >"$lab_results" ;;
  *) $b mount -t hostfs -o "$lab_results" host $lab/host; $b tar -c -f $lab/host/results.tar -C $lab/results . ;;
esac
$b sync
$b poweroff -f
