#!/busybox sh
# The first program of a guest: mounts what connbench reads, runs the command in $lab_command, hands back /results as an
# archive, and switches the machine off. $lab_results, from the kernel's command line, says where the archive goes to.
b=/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t tracefs trace /sys/kernel/tracing 2>/dev/null # user-mode-linux has neither
$b mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null
$b mount -t tmpfs tmp /tmp
$b mount -t tmpfs results /results
$b mkdir -p /dev/shm /dev/pts /etc /bin
$b mount -t devpts pts /dev/pts
$b mount -t tmpfs shm /dev/shm
$b ln -sf /busybox /bin/sh
$b ip link set lo up
# Until it is seeded a kernel makes each random number anew, at 40,000 instructions a connect(). This waits for it.
$b head -c 1 /dev/random >/dev/null
# A kernel draws the table that its port search begins by at its very first connect(), in six million instructions.
for address in 127.0.0.1 ::1; do $b nc "$address" 9 </dev/null 2>/dev/null; done
ulimit -n 1048576
export HOME=/tmp LANG=C.UTF-8 PATH=/bin:/usr/bin PYTHONHASHSEED=0
export PATH=$($b dirname "$lab_python"):$PATH
$b echo "kernel-lab: up $($b cut -d' ' -f1 /proc/uptime)"
{
  $b sh /lab-command </dev/null
  $b echo $? >/results/status
} 2>&1 | $b tee /results/output.txt
$b cut -d' ' -f1 /proc/uptime >/results/uptime
$b uname -r >/results/release
$b echo "kernel-lab: done $($b cat /results/uptime)"
case $lab_results in
  /dev/*) $b stty -F "$lab_results" raw -echo; $b tar -c -C /results . >"$lab_results" ;;
  *) $b mkdir /host; $b mount -t hostfs -o "$lab_results" host /host; $b tar -c -f /host/results.tar -C /results . ;;
esac
$b sync
$b poweroff -f
