/* SPDX-License-Identifier: MIT */
#include "support/veth.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char *const names[] = {[VETH_NEAR] = "sr-near", [VETH_FAR] = "sr-far"};
static const char *const addresses[] = {[VETH_NEAR] = "192.0.2.1", [VETH_FAR] = "192.0.2.2"};

static int namespaces[2] = {-1, -1};

static const char *reason(const char *what) {
    static char text[128];
    (void)snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    return text;
}

static void must(bool good, const char *what) {
    if (!good) {
        fprintf(stderr, "veth: %s\n", reason(what));
        abort();
    }
}

static void enter(enum veth_side side) {
    must(setns(namespaces[side], CLONE_NEWNET) == 0, "setns(2)");
}

/* ---- rtnetlink -------------------------------------------------------------------------------
 */

struct message {
    struct nlmsghdr header;
    struct ifinfomsg info;
    char attributes[256];
};

static struct rtattr *begin_attribute(struct message *message, unsigned short type) {
    struct rtattr *attribute =
        (struct rtattr *)(void *)((char *)message + NLMSG_ALIGN(message->header.nlmsg_len));
    *attribute = (struct rtattr){.rta_len = RTA_LENGTH(0), .rta_type = type};
    message->header.nlmsg_len = NLMSG_ALIGN(message->header.nlmsg_len) + RTA_LENGTH(0);
    return attribute;
}

static void append(struct message *message, const void *bytes, size_t size_bytes) {
    memcpy((char *)message + message->header.nlmsg_len, bytes, size_bytes);
    message->header.nlmsg_len += NLMSG_ALIGN((uint32_t)size_bytes);
}

static void end_attribute(struct message *message, struct rtattr *attribute) {
    attribute->rta_len =
        (unsigned short)((char *)message + message->header.nlmsg_len - (char *)attribute);
}

static void add_attribute(struct message *message, unsigned short type, const void *bytes,
                          size_t size_bytes) {
    struct rtattr *attribute = begin_attribute(message, type);
    append(message, bytes, size_bytes);
    attribute->rta_len = (unsigned short)RTA_LENGTH(size_bytes);
}

/* As `ip link add sr-near type veth peer name sr-far netns FAR`. Returns 0 or a negative errno. */
static int link_add(void) {
    const struct ifinfomsg nothing = {.ifi_family = AF_UNSPEC};
    struct message message = {
        .header = {.nlmsg_len = NLMSG_LENGTH(sizeof message.info),
                   .nlmsg_type = RTM_NEWLINK,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK},
    };
    add_attribute(&message, IFLA_IFNAME, names[VETH_NEAR], strlen(names[VETH_NEAR]) + 1);
    struct rtattr *link = begin_attribute(&message, IFLA_LINKINFO);
    add_attribute(&message, IFLA_INFO_KIND, "veth", 5);
    struct rtattr *data = begin_attribute(&message, IFLA_INFO_DATA);
    struct rtattr *peer = begin_attribute(&message, VETH_INFO_PEER);
    append(&message, &nothing, sizeof nothing);
    add_attribute(&message, IFLA_IFNAME, names[VETH_FAR], strlen(names[VETH_FAR]) + 1);
    add_attribute(&message, IFLA_NET_NS_FD, &namespaces[VETH_FAR], sizeof namespaces[VETH_FAR]);
    end_attribute(&message, peer);
    end_attribute(&message, data);
    end_attribute(&message, link);

    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char rest[512];
    } answer = {.error.error = -EPROTO};
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    must(fd >= 0, "socket(AF_NETLINK)");
    must(send(fd, &message, message.header.nlmsg_len, 0) > 0, "send to rtnetlink");
    must(recv(fd, &answer, sizeof answer, 0) > 0, "receive from rtnetlink");
    (void)close(fd);
    return answer.error.error;
}

/* ---- interfaces ------------------------------------------------------------------------------
 */

static void change_flags(enum veth_side side, short set, short clear) {
    struct ifreq request = {.ifr_name = ""};
    const int fd = veth_socket(side, SOCK_DGRAM);
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, "%s", names[side]);
    must(ioctl(fd, SIOCGIFFLAGS, &request) == 0, "SIOCGIFFLAGS");
    request.ifr_flags = (short)((request.ifr_flags | set) & ~clear);
    must(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "SIOCSIFFLAGS");
    (void)close(fd);
}

static void set_address(enum veth_side side) {
    struct ifreq request = {.ifr_name = ""};
    struct sockaddr_in address = veth_address(side, 0);
    const int fd = veth_socket(side, SOCK_DGRAM);
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, "%s", names[side]);
    memcpy(&request.ifr_addr, &address, sizeof address);
    must(ioctl(fd, SIOCSIFADDR, &request) == 0, "SIOCSIFADDR");
    address.sin_addr.s_addr = htonl(0xffffff00);
    memcpy(&request.ifr_netmask, &address, sizeof address);
    must(ioctl(fd, SIOCSIFNETMASK, &request) == 0, "SIOCSIFNETMASK");
    (void)close(fd);
}

const char *veth_begin(void) {
    for (int side = VETH_FAR; side >= VETH_NEAR; side--) {
        if (unshare(CLONE_NEWNET) != 0) {
            return reason("no network namespace of its own");
        }
        namespaces[side] = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        must(namespaces[side] >= 0, "/proc/thread-self/ns/net");
    }
    const int code = link_add();
    if (code < 0) {
        errno = -code;
        return reason("no pair of virtual interfaces (veth)");
    }
    for (int side = VETH_NEAR; side <= VETH_FAR; side++) {
        set_address((enum veth_side)side);
        veth_set_up((enum veth_side)side, true);
    }
    return NULL;
}

int veth_socket(enum veth_side side, int type) {
    enter(side);
    const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    must(fd >= 0, "socket(AF_INET)");
    enter(VETH_NEAR);
    return fd;
}

struct sockaddr_in veth_address(enum veth_side side, in_port_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = port};
    (void)inet_pton(AF_INET, addresses[side], &address.sin_addr);
    return address;
}

void veth_set_up(enum veth_side side, bool up) {
    change_flags(side, up ? IFF_UP : 0, up ? 0 : IFF_UP);
}

void veth_set_answers(bool answers) {
    change_flags(VETH_FAR, answers ? 0 : IFF_NOARP, answers ? IFF_NOARP : 0);
}
