/* Holds the kernel's network lock for some seconds, as a driver does that hangs: e1000's own test of
 * its card runs under it. Many of these wait for each other. */
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	static struct {
		struct ethtool_test test;
		__u64 results[64];
	} request = { .test = { .cmd = ETHTOOL_TEST, .flags = ETH_TEST_FL_OFFLINE } };
	struct ifreq interface = { .ifr_data = (char *)&request };
	int lookup = socket(AF_INET, SOCK_DGRAM, 0);

	if (argc != 2 || lookup < 0)
		return 2;
	strncpy(interface.ifr_name, argv[1], IFNAMSIZ - 1);
	if (ioctl(lookup, SIOCETHTOOL, &interface) < 0) {
		perror(argv[1]);
		return 1;
	}
	return 0;
}
