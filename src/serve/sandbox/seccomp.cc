#include <sched.h>
#include <seccomp.h>

#include <cerrno>
#include <memory>

#include "core/errno_text.h"
#include "serve/sandbox/sandbox.h"

namespace liveavatar::sandbox {
namespace {

constexpr const char* kRefused[] = {"execve",
                                    "execveat",  // other programs
                                    "ptrace",
                                    "process_vm_readv",
                                    "process_vm_writev",
                                    "kcmp",
                                    "pidfd_getfd",  // other processes
                                    "mount",
                                    "umount",
                                    "umount2",
                                    "mount_setattr",
                                    "move_mount",
                                    "open_tree",  // file systems
                                    "fsopen",
                                    "fsconfig",
                                    "fsmount",
                                    "fspick",
                                    "pivot_root",
                                    "chroot",
                                    "quotactl",
                                    "quotactl_fd",  //
                                    "open_by_handle_at",
                                    "fanotify_init",
                                    "swapon",
                                    "swapoff",
                                    "mknod",
                                    "mknodat",  //
                                    "init_module",
                                    "finit_module",
                                    "delete_module",
                                    "kexec_load",
                                    "kexec_file_load",
                                    "reboot",  // the kernel
                                    "bpf",
                                    "perf_event_open",
                                    "userfaultfd",
                                    "lookup_dcookie",
                                    "syslog",
                                    "acct",  //
                                    "io_uring_setup",
                                    "io_uring_enter",
                                    "io_uring_register",  //
                                    "add_key",
                                    "request_key",
                                    "keyctl",  // keys
                                    "unshare",
                                    "setns",
                                    "personality",
                                    "iopl",
                                    "ioperm",
                                    "vhangup",  // what a process is
                                    "setuid",
                                    "setgid",
                                    "setreuid",
                                    "setregid",
                                    "setresuid",
                                    "setresgid",  //
                                    "setfsuid",
                                    "setfsgid",
                                    "setgroups",
                                    "capset",  //
                                    "settimeofday",
                                    "clock_settime",
                                    "clock_adjtime",
                                    "adjtimex",
                                    "stime",  // the machine
                                    "sethostname",
                                    "setdomainname"};

constexpr uint64_t kNewNamespaces[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                       CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};

struct Release {
  void operator()(void* filter) const { seccomp_release(filter); }
};

// 0, or an errno below zero. What this machine's kind has not is passed over.
int refuse(scmp_filter_ctx filter) {
  for (const char* name : kRefused) {
    const int call = seccomp_syscall_resolve_name(name);
    if (call == __NR_SCMP_ERROR) continue;
    const int added = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0);
    if (added != 0 && added != -EDOM) return added;
  }
  for (const uint64_t flag : kNewNamespaces) {
    const scmp_arg_cmp has_flag{.arg = 0, .op = SCMP_CMP_MASKED_EQ, .datum_a = flag, .datum_b = flag};
    const int added = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, &has_flag);
    if (added != 0) return added;
  }
  // Its flags lie in memory, where a filter cannot look; without it the C library uses clone.
  return seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

}  // namespace

Status restrict_calls() {
  const std::unique_ptr<void, Release> filter(seccomp_init(SCMP_ACT_ALLOW));
  int error = filter ? 0 : -ENOMEM;
  if (error == 0) error = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  if (error == 0) error = seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
  if (error == 0) error = refuse(filter.get());
  if (error == 0) error = seccomp_load(filter.get());
  if (error == 0) return {};
  return unsupported("seccomp: no filter can be set " +
                     errno_text(-error, "see whether the kernel or the container has it"));
}

}  // namespace liveavatar::sandbox
