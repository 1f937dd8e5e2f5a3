// A lab of the thread-per-VM kind, to measure tap-reactor against: what one writes first.
//
//   threads PAIRS WINDOW COUNT     VMs in pairs on tap0, tap1, ..., which exist; in each pair WINDOW threads ping in turn,
//                                  COUNT pings altogether. Prints pings/s, mean and p99 round trip in microseconds.
//   threads PAIRS WINDOW 0         only answers, until it is killed
//
// Two threads a VM: a reader waits in select() for its TAP and puts frames into a blocking queue of bytes, a worker takes
// them out and answers ARP and ICMP echo. Whoever pings is a thread that sleeps on a condition variable until the worker
// has seen the reply. It knows nothing but ARP and IPv4 echo, so that IPv6 is kept away from its bridge.
//
// Build: g++ -O2 -std=c++17 -pthread -o threads threads.cpp
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using Clock = std::chrono::steady_clock;
using Mac = std::array<uint8_t, 6>;
using Frame = std::vector<uint8_t>;

static constexpr size_t kPayload = 56;
static constexpr size_t kLargestFrame = 1514;
static constexpr auto kTimeout = std::chrono::seconds(5);

[[noreturn]] static void die(const char* what) {
    perror(what);
    exit(1);
}

// Bytes in, bytes out; whoever takes from an empty queue or puts into a full one sleeps.
class ByteQueue {
public:
    void put(const uint8_t* bytes, size_t length) {
        std::unique_lock<std::mutex> lock(mutex_);
        drained_.wait(lock, [&] { return bytes_.size() + length <= kCapacity; });
        bytes_.insert(bytes_.end(), bytes, bytes + length);
        filled_.notify_one();
    }

    void take(uint8_t* bytes, size_t length) {
        std::unique_lock<std::mutex> lock(mutex_);
        filled_.wait(lock, [&] { return bytes_.size() >= length; });
        std::copy_n(bytes_.begin(), length, bytes);
        bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(length));
        drained_.notify_one();
    }

private:
    static constexpr size_t kCapacity = 64 * 1024;
    std::mutex mutex_;
    std::condition_variable filled_, drained_;
    std::deque<uint8_t> bytes_;
};

static uint16_t checksum(const uint8_t* bytes, size_t length) {
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < length; i += 2) sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
    if (length % 2) sum += static_cast<uint32_t>(bytes[length - 1] << 8);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(~sum);
}

static void put16(uint8_t* at, uint16_t value) {
    at[0] = static_cast<uint8_t>(value >> 8);
    at[1] = static_cast<uint8_t>(value);
}

static void put32(uint8_t* at, uint32_t value) {
    put16(at, static_cast<uint16_t>(value >> 16));
    put16(at + 2, static_cast<uint16_t>(value));
}

static uint16_t get16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }
static uint32_t get32(const uint8_t* at) { return static_cast<uint32_t>(get16(at)) << 16 | get16(at + 2); }

class Vm {
public:
    explicit Vm(uint32_t number) : ip_(0x0a4d0002 + number), mac_{0x02, 0x00} {
        put32(&mac_[2], ip_);
        fd_ = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        if (fd_ < 0) die("/dev/net/tun");
        ifreq request{};
        request.ifr_flags = IFF_TAP | IFF_NO_PI;
        snprintf(request.ifr_name, IFNAMSIZ, "tap%u", number);
        if (ioctl(fd_, TUNSETIFF, &request) < 0) die(request.ifr_name);
        if (fd_ >= FD_SETSIZE) die("select() takes no descriptor beyond 1023");
    }

    void start() {
        std::thread([this] { read_frames(); }).detach();
        std::thread([this] { work(); }).detach();
    }

    uint32_t ip() const { return ip_; }

    // Sends an echo request and sleeps until its reply has come.
    bool ping(uint32_t to, uint16_t id, uint16_t sequence) {
        Mac mac;
        if (!resolve(to, mac)) return false;
        Frame frame(14 + 20 + 8 + kPayload);
        ethernet(frame, mac, 0x0800);
        uint8_t* ip = &frame[14];
        ip[0] = 0x45;
        put16(ip + 2, static_cast<uint16_t>(frame.size() - 14));
        ip[8] = 64;
        ip[9] = 1;
        put32(ip + 12, ip_);
        put32(ip + 16, to);
        put16(ip + 10, checksum(ip, 20));
        uint8_t* icmp = ip + 20;
        icmp[0] = 8;
        put16(icmp + 4, id);
        put16(icmp + 6, sequence);
        for (size_t i = 0; i < kPayload; i++) icmp[8 + i] = static_cast<uint8_t>(i);
        put16(icmp + 2, checksum(icmp, 8 + kPayload));

        const uint32_t key = static_cast<uint32_t>(id) << 16 | sequence;
        std::unique_lock<std::mutex> lock(mutex_);
        waiting_[key] = false;
        lock.unlock();
        send(frame);
        lock.lock();
        const bool answered = replied_.wait_for(lock, kTimeout, [&] { return waiting_[key]; });
        waiting_.erase(key);
        return answered;
    }

private:
    void read_frames() {
        uint8_t buffer[2 + kLargestFrame];
        for (;;) {
            fd_set readable;
            FD_ZERO(&readable);
            FD_SET(fd_, &readable);
            if (select(fd_ + 1, &readable, nullptr, nullptr, nullptr) < 0) die("select");
            const ssize_t length = read(fd_, buffer + 2, kLargestFrame);
            if (length < 0) die("read");
            put16(buffer, static_cast<uint16_t>(length));
            queue_.put(buffer, static_cast<size_t>(length) + 2);
        }
    }

    void work() {
        for (;;) {
            uint8_t length[2];
            queue_.take(length, 2);
            Frame frame(get16(length));
            queue_.take(frame.data(), frame.size());
            if (frame.size() < 42) continue;
            const bool is_mine = std::equal(mac_.begin(), mac_.end(), frame.begin());
            const uint16_t type = get16(&frame[12]);
            if (type == 0x0806) arp(frame);
            if (type == 0x0800 && is_mine) echo(frame);
        }
    }

    void arp(Frame& frame) {
        uint8_t* arp = &frame[14];
        if (get32(arp + 24) != ip_) return;
        const uint32_t sender = get32(arp + 14);
        Mac mac;
        std::copy_n(arp + 8, 6, mac.begin());
        {
            std::lock_guard<std::mutex> lock(mutex_);
            neighbours_[sender] = mac;
            resolved_.notify_all();
        }
        if (get16(arp + 6) == 1) send(arp_frame(2, mac, mac, sender));
    }

    void echo(Frame& frame) {
        uint8_t* ip = &frame[14];
        const size_t header = static_cast<size_t>(ip[0] & 15) * 4, length = get16(ip + 2);
        if (header < 20 || length < header + 8 || length > frame.size() - 14) return;
        if (ip[9] != 1 || get32(ip + 16) != ip_ || checksum(ip, header)) return;
        uint8_t* icmp = ip + header;
        if (checksum(icmp, length - header)) return;
        if (icmp[0] == 8) {
            Mac to;
            std::copy_n(&frame[6], 6, to.begin());
            ethernet(frame, to, 0x0800);
            put32(ip + 16, get32(ip + 12));
            put32(ip + 12, ip_);
            ip[8] = 64;
            put16(ip + 10, 0);
            put16(ip + 10, checksum(ip, header));
            icmp[0] = 0;
            put16(icmp + 2, 0);
            put16(icmp + 2, checksum(icmp, length - header));
            send(frame);
        } else if (icmp[0] == 0) {
            std::lock_guard<std::mutex> lock(mutex_);
            const auto found = waiting_.find(get32(icmp + 4));
            if (found == waiting_.end()) return;
            found->second = true;
            replied_.notify_all();
        }
    }

    bool resolve(uint32_t ip, Mac& mac) {
        std::unique_lock<std::mutex> lock(mutex_);
        for (int attempt = 0; attempt < 3; attempt++) {
            const auto found = neighbours_.find(ip);
            if (found != neighbours_.end()) {
                mac = found->second;
                return true;
            }
            lock.unlock();
            send(arp_frame(1, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {}, ip));
            lock.lock();
            resolved_.wait_for(lock, std::chrono::seconds(1), [&] { return neighbours_.count(ip) > 0; });
        }
        return false;
    }

    Frame arp_frame(uint16_t operation, const Mac& to, const Mac& target_mac, uint32_t target) {
        Frame frame(42);
        ethernet(frame, to, 0x0806);
        uint8_t* arp = &frame[14];
        put16(arp, 1);
        put16(arp + 2, 0x0800);
        arp[4] = 6;
        arp[5] = 4;
        put16(arp + 6, operation);
        std::copy(mac_.begin(), mac_.end(), arp + 8);
        put32(arp + 14, ip_);
        std::copy(target_mac.begin(), target_mac.end(), arp + 18);
        put32(arp + 24, target);
        return frame;
    }

    void ethernet(Frame& frame, const Mac& to, uint16_t type) {
        std::copy(to.begin(), to.end(), frame.begin());
        std::copy(mac_.begin(), mac_.end(), frame.begin() + 6);
        put16(&frame[12], type);
    }

    void send(const Frame& frame) {
        if (write(fd_, frame.data(), frame.size()) < 0) die("write");
    }

    int fd_;
    uint32_t ip_;
    Mac mac_;
    ByteQueue queue_;
    std::mutex mutex_;
    std::condition_variable resolved_, replied_;
    std::map<uint32_t, Mac> neighbours_;
    std::map<uint32_t, bool> waiting_;
};

int main(int argc, char** argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s PAIRS WINDOW COUNT\n", argv[0]);
        return 2;
    }
    const auto pairs = static_cast<uint32_t>(atoi(argv[1]));
    const auto window = static_cast<uint16_t>(atoi(argv[2]));
    const auto count = static_cast<uint32_t>(atoi(argv[3]));
    const rlim_t files = 2 * pairs + 16;
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::max(limit.rlim_cur, std::min(files, limit.rlim_max));
    setrlimit(RLIMIT_NOFILE, &limit);

    std::vector<std::unique_ptr<Vm>> vms;
    for (uint32_t i = 0; i < 2 * pairs; i++) vms.push_back(std::make_unique<Vm>(i));
    for (auto& vm : vms) vm->start();
    if (count == 0) {
        for (;;) pause();
    }

    // The neighbours are resolved before anything is measured.
    for (uint32_t pair = 0; pair < pairs; pair++) {
        if (!vms[2 * pair]->ping(vms[2 * pair + 1]->ip(), 0, 0)) die("no reply");
    }
    const uint32_t each = std::max(1u, count / window);
    std::vector<std::vector<uint64_t>> taken(static_cast<size_t>(pairs) * window);
    std::vector<std::thread> pingers;
    const auto start = Clock::now();
    for (size_t i = 0; i < taken.size(); i++) {
        pingers.emplace_back([&, i] {
            Vm& from = *vms[2 * (i / window)];
            const uint32_t to = vms[2 * (i / window) + 1]->ip();
            taken[i].reserve(each);
            for (uint32_t sequence = 0; sequence < each; sequence++) {
                const auto sent = Clock::now();
                if (!from.ping(to, static_cast<uint16_t>(1 + i % window), static_cast<uint16_t>(sequence))) die("no reply");
                taken[i].push_back(static_cast<uint64_t>((Clock::now() - sent).count()));
            }
        });
    }
    for (auto& pinger : pingers) pinger.join();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();

    std::vector<uint64_t> all;
    for (const auto& some : taken) all.insert(all.end(), some.begin(), some.end());
    std::sort(all.begin(), all.end());
    double sum = 0;
    for (const uint64_t nanos : all) sum += static_cast<double>(nanos);
    const double pings = static_cast<double>(all.size());
    printf("%.0f %.2f %.2f\n", pings / seconds, sum / pings / 1e3, static_cast<double>(all[all.size() * 99 / 100]) / 1e3);
    fflush(stdout);
    _exit(0);
}
