#!/bin/bash
# Boot a real, throw-away systemd as PID 1 of its own namespaces, on a copy-on-write view of this root.
#   box.sh start DIR | exec DIR COMMAND... | stop DIR
# Needs root, util-linux, overlayfs and cgroup2. Writes nothing to the real root: the upper layer is a tmpfs.
# DIR/setup.sh, if there is one, runs before the boot with $ROOT, the new root.
set -euo pipefail
self=$(realpath "$0"); cmd=$1; D=$2; shift 2
case $cmd in
start)
  mkdir -p "$D"; D=$(realpath "$D"); rm -f "$D/init.pid"
  setsid unshare --fork --pid --mount --uts --ipc --net --propagation private --kill-child=KILL \
     bash "$self" _stage1 "$D" >"$D/console.log" 2>&1 </dev/null &
  outer=$!; echo $outer >"$D/outer.pid"
  for _ in $(seq 300); do
    if [ ! -s "$D/init.pid" ]; then
      p=$(cat /proc/$outer/task/$outer/children 2>/dev/null || true); p=${p%% *}
      if [ -n "$p" ] && [ "$(cat /proc/$p/comm 2>/dev/null)" = systemd ]; then echo "$p" >"$D/init.pid"; fi
    else
      s=$("$self" exec "$D" systemctl is-system-running 2>/dev/null || true)
      case $s in running|degraded) echo "systemd is up: $s"; exit 0;; esac
    fi
    kill -0 $outer 2>/dev/null || { cat "$D/console.log" >&2; exit 1; }
    sleep 0.1
  done
  echo "timeout, state=${s:-none}" >&2; exit 1;;
exec)
  exec nsenter -t "$(cat "$D/init.pid")" -m -u -i -n -p -C -r -w -- env -i \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8 SYSTEMD_PAGER= SYSTEMD_COLORS=0 "$@";;
stop)   # killing `unshare` kills its child (PDEATHSIG), the pid namespace dies with it, then the mounts
  o=$(cat "$D/outer.pid"); kill -KILL "$o" 2>/dev/null || true
  for _ in $(seq 50); do [ -d "/proc/$(cat "$D/init.pid" 2>/dev/null || echo 0)" ] || break; sleep 0.1; done
  unshare -m sh -c "mount -t tmpfs t /mnt; mkdir /mnt/c; mount -t cgroup2 c /mnt/c; sleep 0.2; find /mnt/c/$(cat "$D/cgroup") -depth -type d -exec rmdir {} \;";;
_stage1)
  R=/run/ingle-box-root; mkdir -p $R; mount -t tmpfs -o mode=755 ingle-box $R; mkdir $R/up $R/wk $R/root $R/cg
  mount -t cgroup2 cgroup2 $R/cg; CG=$(mktemp -d $R/cg/ingle-box.XXXXXX); chmod 755 $CG; basename $CG >"$D/cgroup"; echo $$ >"$CG/cgroup.procs"
  exec unshare --cgroup bash "$self" _stage2 "$D";;
_stage2)
  R=/run/ingle-box-root; N=$R/root; umount $R/cg
  mount -t overlay overlay -o lowerdir=/,upperdir=$R/up,workdir=$R/wk $N
  mount -t proc -o nosuid,nodev,noexec proc $N/proc
  for p in sys sysrq-trigger; do [ -e $N/proc/$p ] || continue; mount --bind $N/proc/$p $N/proc/$p; mount -o remount,bind,ro $N/proc/$p; done   # never touch the host's sysctls
  mount -t sysfs -o ro,nosuid,nodev,noexec sysfs $N/sys                                                       # ro /sys = "a container": no udev
  mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 $N/sys/fs/cgroup                                             # unified, delegated, writable
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs $N/run; mount -t tmpfs -o mode=1777 tmpfs $N/tmp; mount -t tmpfs -o mode=755,nosuid dev $N/dev
  for n in null zero full random urandom tty $(cd /dev; ls -d nvidia* kvm fuse 2>/dev/null || true); do
    [ -c /dev/$n ] && { touch $N/dev/$n; mount --bind /dev/$n $N/dev/$n; }; done
  mkdir $N/dev/pts $N/dev/shm; mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts $N/dev/pts
  ln -s pts/ptmx $N/dev/ptmx; mount -t tmpfs -o mode=1777,nosuid,nodev shm $N/dev/shm
  ln -s /proc/self/fd $N/dev/fd; for i in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${i%:*} $N/dev/${i#*:}; done
  mkdir -p "$N$D"; mount --bind "$D" "$N$D"                                                                    # shared folder, same path inside
  : >$N/etc/machine-id; echo ingle-box >$N/etc/hostname; : >$N/etc/fstab
  U=$N/etc/systemd/system; mkdir -p $U $N/etc/tmpfiles.d; ln -sf /dev/null $N/etc/tmpfiles.d/tmp.conf
  printf '[Unit]\nDescription=ingle-box\nRequires=basic.target\nAfter=basic.target\nWants=dbus.socket systemd-journald.service\nAllowIsolate=yes\n' >$U/ingle-box.target
  for u in systemd-sysctl.service systemd-udevd.service systemd-udev-trigger.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
    systemd-remount-fs.service systemd-timesyncd.service systemd-modules-load.service systemd-hwdb-update.service ldconfig.service systemd-firstboot.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount systemd-tmpfiles-setup-dev.service timers.target; do
    ln -sf /dev/null $U/$u; done
  if [ -e "$D/setup.sh" ]; then ROOT=$N bash -eu "$D/setup.sh"; fi
  cd $N; mkdir -p mnt/.old; pivot_root . mnt/.old
  exec env -i container=ingle-box PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot . /bin/sh -c 'umount -l /mnt/.old; mount --make-rshared /; exec /lib/systemd/systemd --system --unit=ingle-box.target --log-target=journal --log-level=info --show-status=no';;
esac
