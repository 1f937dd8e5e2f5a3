// The move of a TAP from one bridge to another as plain system calls, to measure tap-reactor against.
//
//   move MOVES MILLISECONDS    in a network namespace with the bridges leaf0 and leaf1, joined by a spine: makes tap0 on leaf0 and
//                              tap1, has tap0 ping tap1 every 10 us, moves tap1 from leaf to leaf, there and back, MOVES
//                              times in all and so many milliseconds apart, and prints the gap of each move in microseconds:
//                              from the last answer before it to the first after it.
//
// One thread pings, answers and reads, another moves: one RTM_NEWLINK with the new master, then a gratuitous ARP.
//
// Build: g++ -O2 -std=c++17 -pthread -o move move.cpp
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>

static constexpr uint8_t kMac[2][6] = {{2, 0, 10, 77, 0, 2}, {2, 0, 10, 77, 0, 3}};
static constexpr int64_t kInterval = 10'000;

[[noreturn]] static void die(const char* what) {
    perror(what);
    exit(1);
}

static int64_t now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

static int open_tap(const char* name) {
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (fd < 0) die("open /dev/net/tun");
    ifreq request{};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (ioctl(fd, TUNSETIFF, &request) < 0) die("TUNSETIFF");
    return fd;
}

// Makes a TAP a port of a bridge, and brings it up, by one request.
static void join(int netlink, const char* tap, const char* bridge) {
    struct {
        nlmsghdr header;
        ifinfomsg link;
        rtattr attribute;
        uint32_t master;
    } request{};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = RTM_NEWLINK;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    request.link.ifi_index = static_cast<int>(if_nametoindex(tap));
    request.link.ifi_flags = request.link.ifi_change = IFF_UP;
    request.attribute.rta_len = RTA_LENGTH(sizeof request.master);
    request.attribute.rta_type = IFLA_MASTER;
    request.master = if_nametoindex(bridge);
    if (send(netlink, &request, sizeof request, 0) < 0) die("send");
    char reply[4096];
    if (recv(netlink, reply, sizeof reply, 0) < 0) die("recv");
    int error = reinterpret_cast<nlmsgerr*>(NLMSG_DATA(reinterpret_cast<nlmsghdr*>(reply)))->error;
    if (error != 0) {
        errno = -error;
        die("RTM_NEWLINK");
    }
}

// Has 10.77.0.3 announce itself.
static void announce(int tap) {
    uint8_t frame[42]{};
    memset(frame, 0xff, 6);
    memcpy(frame + 6, kMac[1], 6);
    static constexpr uint8_t head[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
    static constexpr uint8_t address[] = {10, 77, 0, 3};
    memcpy(frame + 12, head, sizeof head);
    memcpy(frame + 22, kMac[1], 6);
    memcpy(frame + 28, address, 4);
    memcpy(frame + 38, address, 4);
    if (write(tap, frame, sizeof frame) < 0) die("write an announcement");
}

// A frame of 98 bytes from one TAP to the other, of a type that nobody knows.
static void prepare(uint8_t* frame, int from) {
    memset(frame, 0, 98);
    memcpy(frame, kMac[1 - from], 6);
    memcpy(frame + 6, kMac[from], 6);
    frame[12] = 0x88, frame[13] = 0xb5;
}

int main(int argc, char** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: move MOVES MILLISECONDS\n");
        return 2;
    }
    const int moves = atoi(argv[1]);
    const int64_t pause = atoll(argv[2]) * 1'000'000;
    const int taps[2] = {open_tap("tap0"), open_tap("tap1")};
    const int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (netlink < 0) die("socket");
    join(netlink, "tap0", "leaf0");
    join(netlink, "tap1", "leaf0");
    // The last answer, and the longest gap between two of them since it was reset.
    std::atomic<int64_t> last{0}, longest{0};
    std::atomic<bool> ends{false};
    std::thread pinger([&] {
        uint8_t request[98], answer[98], frame[2048];
        prepare(request, 0);
        prepare(answer, 1);
        const auto is_for = [&](int tap) { return memcmp(frame, kMac[tap], 6) == 0; };
        for (int64_t due = now(); !ends.load(std::memory_order_relaxed); due += kInterval) {
            while (now() < due) {
            }
            // What the TAP does not take while it is between two bridges is lost.
            (void)!write(taps[0], request, sizeof request);
            while (read(taps[1], frame, sizeof frame) > 0) {
                if (is_for(1)) (void)!write(taps[1], answer, sizeof answer);
            }
            while (read(taps[0], frame, sizeof frame) > 0) {
                if (!is_for(0)) continue;
                const int64_t at = now(), before = last.exchange(at);
                if (before != 0 && at - before > longest.load()) longest.store(at - before);
            }
        }
    });
    const auto wait_until = [](int64_t at) {
        const timespec time{at / 1'000'000'000, at % 1'000'000'000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr) != 0) {
        }
    };
    int64_t at = now();
    for (int move = 0; move < moves; move++) {
        wait_until(at += pause);
        longest.store(0);
        join(netlink, "tap1", move % 2 == 0 ? "leaf1" : "leaf0");
        announce(taps[1]);
        wait_until(at + pause / 2);
        printf("%.3f\n", static_cast<double>(longest.load()) / 1000);
    }
    ends.store(true);
    pinger.join();
}
