/* Says that it is there, and waits for ever. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	puts("idle now");
	fflush(stdout);
	for (;;)
		pause();
}
