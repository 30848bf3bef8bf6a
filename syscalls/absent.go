package syscalls

// reasons say why calls that have no row are ENOSYS. Those newer than Linux 6.1 are not
// among them: absent tells them by number.
var reasons = []struct{ name, why string }{
	{"uselib", "a.out's libraries: no such programs run, as without CONFIG_USELIB"},
	{"modify_ldt", "no local descriptor tables, which 16-bit programs need, as without CONFIG_MODIFY_LDT_SYSCALL"},
	{"acct", "no accounting file, as without CONFIG_BSD_PROCESS_ACCT; taskstats tells of ends"},
	{"swapon", noSwap}, {"swapoff", noSwap},
	{"iopl", noPorts}, {"ioperm", noPorts},
	{"init_module", noModules}, {"finit_module", noModules}, {"delete_module", noModules},
	{"lookup_dcookie", "of OProfile's old kernel part, as without CONFIG_PROFILING"},
	{"kexec_load", noKexec}, {"kexec_file_load", noKexec},
	{"add_key", noKeys}, {"request_key", noKeys}, {"keyctl", noKeys},
	{"perf_event_open", "no performance events"},
	{"bpf", "no extended BPF, as without CONFIG_BPF_SYSCALL; socket filters and seccomp take classic BPF"},
	{"memfd_secret", "as on Linux 6.1 that was not started with secretmem.enable"},
	{"_sysctl", gone}, {"create_module", gone}, {"get_kernel_syms", gone}, {"query_module", gone},
	{"nfsservctl", gone}, {"epoll_ctl_old", gone}, {"epoll_wait_old", gone},
	{"getpmsg", never}, {"putpmsg", never}, {"afs_syscall", never}, {"tuxcall", never}, {"security", never},
	{"set_thread_area", never}, {"get_thread_area", never}, {"vserver", never},
}

const (
	noSwap    = "memory is not swapped, as without CONFIG_SWAP"
	noPorts   = "programs do not get at the ports of devices, as without CONFIG_X86_IOPL_IOPERM"
	noModules = "the kernel is whole without modules, as without CONFIG_MODULES"
	noKexec   = "the machine boots its own image alone, as without CONFIG_KEXEC"
	noKeys    = "no key rings, as without CONFIG_KEYS"
	gone      = "Linux 6.1 has it no more"
	never     = "64-bit Linux has the number and no call"
	newer     = "newer than Linux 6.1"
)

// Numbers of Linux 6.1's table: x86-64's own, and from 424 those that all processors share. See
// arch/x86/entry/syscalls/syscall_64.tbl.
const (
	lastOwn    = 334 // rseq
	lastShared = 450 // set_mempolicy_home_node
	firstShare = 424 // pidfd_send_signal
)

// absent is the reason why a call without a row is ENOSYS, empty if nobody wrote one.
func absent(nr int, name string) string {
	if nr > lastShared || nr > lastOwn && nr < firstShare {
		return newer
	}
	for _, r := range reasons {
		if r.name == name {
			return r.why
		}
	}
	return ""
}
