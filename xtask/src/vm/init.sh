#!/busybox sh
# The first process of the machine. The console (ttyS0) is for people; what xtask reads goes to ttyS1, one JSON
# object to a line. TIDEGATE_VM, the kernel's name, comes by the kernel's command line.
/busybox mkdir -p /opt/busybox
/busybox --install -s /opt/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/busybox
export HOME=/root LANG=C.UTF-8 TIDEGATE_VM

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
ln -sf /proc/self/fd /dev/fd
ip link set lo up
stty -F /dev/ttyS1 raw -echo
for module in /modules/$(uname -r)/*; do
    insmod "$module" || echo "not loaded: $module"
done
# As an init system would have it.
ulimit -Hn 524288
ulimit -Sn 1024

say() {
    echo "$1" >/dev/ttyS1
}

# Runs a test program ($2 and more) with libtest's JSON, or one that writes JSON of its own.
suite() {
    say "{\"vm\":\"suite\",\"name\":\"$1\"}"
    name=$1
    shift
    RUSTC_BOOTSTRAP=1 "$@" </dev/null >/dev/ttyS1 2>/dev/ttyS0
    say "{\"vm\":\"ended\",\"name\":\"$name\",\"status\":$?}"
}

read -r uptime _ </proc/uptime
say "{\"vm\":\"up\",\"release\":\"$(uname -r)\",\"lsm\":\"$(cat /sys/kernel/security/lsm)\",\"seconds\":$uptime}"
if [ -n "$TIDEGATE_VM_SHELL" ]; then
    setsid -c bash </dev/ttyS0 >/dev/ttyS0 2>&1
else
    . /suites
fi
say '{"vm":"done"}'
/busybox poweroff -f
