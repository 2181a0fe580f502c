/* Opens connections with IP_LOCAL_PORT_RANGE, so that connect() stays fast until the last port.
 *
 * build: cc -O2 -Wall -Wextra -o client client.c
 * usage: client TARGET PORT CONNECTIONS LOW HIGH [SOURCE]
 *
 * It prints the local address of each connection, and holds all of them until its end. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51 /* since Linux 6.3 */
#endif

enum { WINDOW = 500, WINDOWS = 10 };

struct ports {
    uint16_t low, high;
};

/* Whether connect() searches all ports of IP_LOCAL_PORT_RANGE alike: since Linux 6.8. */
static int prefers_no_parity(void)
{
    struct utsname names;
    int major = 0, minor = 0;
    return uname(&names) == 0 && sscanf(names.release, "%d.%d", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 8));
}

static uint32_t below(uint32_t number)
{
    uint32_t drawn = 0;
    return getrandom(&drawn, sizeof drawn, 0) < 0 ? 0 : drawn % number;
}

static int connect_once(struct sockaddr_in target, struct ports ports, const struct sockaddr_in *source)
{
    /* The value is the lowest port, and the highest times 65,536. */
    uint32_t value = ports.low | (uint32_t)ports.high << 16;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    /* ENOPROTOOPT: Linux before 6.3, where the ports are those of the host's setting. */
    if ((setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &value, sizeof value) == 0 || errno == ENOPROTOOPT) &&
        /* Without this option bind() takes a port at once, for every target: that port is lost for the others. */
        (!source || (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one) == 0 &&
                     bind(fd, (const struct sockaddr *)source, sizeof *source) == 0)) &&
        connect(fd, (const struct sockaddr *)&target, sizeof target) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* Connect from a port of this range: a socket, or -1 with errno set.
 *
 * Since Linux 6.8 the whole range is the fastest. Before, connect() first probes all ports of one parity there: a few
 * random windows are faster, and the whole range comes last, so that no free port is missed. */
static int connect_from(struct sockaddr_in target, struct ports all, const struct sockaddr_in *source)
{
    int windows = prefers_no_parity() || all.high - all.low < WINDOW ? 0 : WINDOWS;
    while (windows-- > 0) {
        uint16_t low = all.low + below(all.high - all.low - WINDOW + 2);
        int fd = connect_once(target, (struct ports){low, low + WINDOW - 1}, source);
        if (fd >= 0 || errno != EADDRNOTAVAIL)
            return fd;
    }
    return connect_once(target, all, source);
}

int main(int count, char **words)
{
    struct sockaddr_in target = {.sin_family = AF_INET}, source = target, own;
    if (count < 6 || inet_pton(AF_INET, words[1], &target.sin_addr) != 1 ||
        (count > 6 && inet_pton(AF_INET, words[6], &source.sin_addr) != 1)) {
        fprintf(stderr, "usage: client TARGET PORT CONNECTIONS LOW HIGH [SOURCE]\n");
        return 2;
    }
    target.sin_port = htons(atoi(words[2]));
    struct ports all = {atoi(words[4]), atoi(words[5])};
    for (int left = atoi(words[3]); left > 0; left--) {
        socklen_t size = sizeof own;
        int fd = connect_from(target, all, count > 6 ? &source : NULL);
        if (fd < 0 || getsockname(fd, (struct sockaddr *)&own, &size) != 0) {
            perror("connect");
            return 1;
        }
        printf("%s:%d\n", inet_ntoa(own.sin_addr), ntohs(own.sin_port));
    }
    return 0;
}
