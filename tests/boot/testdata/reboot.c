/* Ends its machine by reboot(2) as the argument says, or ends itself. */
#include <errno.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "exit";
	unsigned cmd;
	if (!strcmp(how, "restart"))
		cmd = LINUX_REBOOT_CMD_RESTART;
	else if (!strcmp(how, "restart2"))
		cmd = LINUX_REBOOT_CMD_RESTART2;
	else if (!strcmp(how, "poweroff"))
		cmd = LINUX_REBOOT_CMD_POWER_OFF;
	else if (!strcmp(how, "halt"))
		cmd = LINUX_REBOOT_CMD_HALT;
	else {
		printf("program: %s\n", how);
		return 7;
	}
	printf("program: %s\n", how);
	fflush(stdout);
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, cmd, "again");
	printf("still here: errno %d\n", errno);
	return 1;
}
