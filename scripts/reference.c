/* The calls of connbench's measured loop for `--strategy window`, in C: what a loop without an interpreter would cost.
 *
 * usage: reference CONNECTIONS LOW HIGH WINDOW CPU
 * Prints the median connect() and the wall time a connection, both in ns. Needs root: it makes a network namespace.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

/* One attempt, laid out as connbench's columns. */
struct attempt {
	int64_t started, prepare, connect, acquire;
	uint32_t tries;
	uint16_t port, error, source;
};

static void check(int failed, const char *what)
{
	if (failed) {
		perror(what);
		exit(1);
	}
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void set_sysctl(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	check(fd < 0 || write(fd, value, strlen(value)) < 0, path);
	close(fd);
}

static void enter_namespace(const char *range)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd;

	check(unshare(CLONE_NEWNET), "unshare");
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(ioctl(fd, SIOCSIFFLAGS, &lo), "lo up");
	close(fd);
	set_sysctl("/proc/sys/net/ipv4/ip_local_port_range", range);
	set_sysctl("/proc/sys/net/core/somaxconn", "65535");
	set_sysctl("/proc/sys/net/ipv4/tcp_max_syn_backlog", "65535");
}

static struct sockaddr_in address(const char *host, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

	inet_pton(AF_INET, host, &a.sin_addr);
	return a;
}

static int listen_at(struct sockaddr_in *where)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	check(bind(fd, (struct sockaddr *)where, sizeof(*where)), "bind");
	check(listen(fd, 65535), "listen");
	return fd;
}

static int ascending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int n, low, high, window, cpu, i, one = 1;
	struct timeval timeout = {.tv_sec = 5};
	struct sockaddr_in source = address("127.9.9.1", 0), target, bound;
	struct attempt *attempts;
	struct rlimit files;
	int64_t *sorted, epoch;
	cpu_set_t cpus;
	char range[32];
	int *held;

	if (argc != 6)
		return 2;
	n = atoi(argv[1]), low = atoi(argv[2]), high = atoi(argv[3]), window = atoi(argv[4]), cpu = atoi(argv[5]);
	snprintf(range, sizeof(range), "%d %d", low, high);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	enter_namespace(range);
	target = address("127.9.9.2", low - 1);
	listen_at(&target);
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	check(sched_setaffinity(0, sizeof(cpus), &cpus), "sched_setaffinity");
	attempts = calloc(n, sizeof(*attempts));
	held = calloc(n, sizeof(*held));
	sorted = calloc(n, sizeof(*sorted));
	memset(attempts, 0, n * sizeof(*attempts));
	srandom(time(NULL) ^ getpid());

	epoch = now();
	for (i = 0; i < n; i++) {
		socklen_t length = sizeof(bound);
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), failed;
		uint32_t start = low + random() % (high - low + 2 - window);
		uint32_t option = start | (start + window - 1) << 16;
		int64_t begun, prepared, done;

		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
		begun = now();
		setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		setsockopt(fd, SOL_IP, IP_LOCAL_PORT_RANGE, &option, sizeof(option));
		bind(fd, (struct sockaddr *)&source, sizeof(source));
		prepared = now();
		failed = connect(fd, (struct sockaddr *)&target, sizeof(target));
		done = now();
		attempts[i].started = begun - epoch;
		attempts[i].prepare = prepared - begun;
		attempts[i].connect = done - prepared;
		attempts[i].acquire = done - begun;
		attempts[i].tries = 1;
		if (failed) {
			attempts[i].error = errno;
			close(fd);
		} else {
			getsockname(fd, (struct sockaddr *)&bound, &length);
			attempts[i].port = ntohs(bound.sin_port);
			held[i] = fd;
		}
	}
	for (i = 0; i < n; i++)
		sorted[i] = attempts[i].connect;
	qsort(sorted, n, sizeof(*sorted), ascending);
	printf("%lld %.1f\n", (long long)sorted[n / 2],
	       (double)(attempts[n - 1].started + attempts[n - 1].acquire - attempts[0].started) / n);
	return 0;
}
