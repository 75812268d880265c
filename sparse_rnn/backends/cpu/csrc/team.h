// Several phases of work, one after the other, by the same threads.
//
// A window has hundreds of small phases, and each needs all results of the one before. at::parallel_for would start and join
// all threads for each of them. That takes microseconds, and where other processes use the cores it waits, each time, for a
// thread that isn't running. Here threads start once. Each does the tasks of its own part first, so that their data stay in
// the caches of one core, then those that nobody has begun: a thread that isn't running delays only the task it is at.
#pragma once
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

class Team {
 public:
  explicit Team(int64_t members) : members_(members), parts_(new Part[members]) {}

  // One thread's place in the team: all members go through the same phases.
  class Member {
   public:
    Member(Team& team, int64_t number) : team_(team), number_(number) {}

    // Calls f(task) for the tasks 0 ... count - 1, divided among the members; returns when all are done.
    template <typename F>
    void operator()(int64_t count, const F& f) {
      const int64_t members = team_.members_;
      phase_++;
      finished_ += count;
      for (int64_t k = 0; k < members; k++) {
        const int64_t part = (number_ + k) % members, begin = count * part / members, end = count * (part + 1) / members;
        for (int64_t task; (task = team_.parts_[part].take(phase_, end - begin)) >= 0;) {
          f(begin + task);
          team_.done_.fetch_add(1, std::memory_order_release);
        }
      }
      for (int64_t turn = 0; team_.done_.load(std::memory_order_acquire) < finished_; turn++)
        if (turn >= TURNS) std::this_thread::yield();
    }

   private:
    static constexpr int64_t TURNS = 1000;  // of waiting, before the core is left to others
    Team& team_;
    int64_t number_, finished_ = 0;
    uint64_t phase_ = 0;
  };

 private:
  // How many tasks of a part are taken, with the number of the phase in the upper half. A member that is late finds a later
  // phase there and takes nothing.
  struct alignas(64) Part {
    std::atomic<uint64_t> taken{0};

    int64_t take(uint64_t phase, int64_t count) {
      uint64_t now = taken.load(std::memory_order_relaxed);
      while (true) {
        const uint64_t in = now >> 32, next = in == phase ? now & UINT32_MAX : 0;
        if (in > phase || int64_t(next) >= count) return -1;
        if (taken.compare_exchange_weak(now, phase << 32 | (next + 1), std::memory_order_relaxed)) return int64_t(next);
      }
    }
  };

  const int64_t members_;
  const std::unique_ptr<Part[]> parts_;
  alignas(64) std::atomic<int64_t> done_{0};  // tasks, in all phases
};

// Notices when the end of a region waits for a thread that isn't running. Short regions then have one thread for a while.
class Crowd {
 public:
  static bool noticed() { return now() < until().load(std::memory_order_relaxed); }
  // waited: nanoseconds between the end of all work and the end of the region.
  static void notice(int64_t waited) {
    if (waited > LONG) until().store(now() + MEMORY, std::memory_order_relaxed);
  }
  static int64_t now() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

 private:
  static constexpr int64_t LONG = 300'000, MEMORY = 200'000'000;
  static std::atomic<int64_t>& until() {
    static std::atomic<int64_t> time{0};
    return time;
  }
};

// Calls work(member) in as many of torch's threads as are worth starting for so many phases of so many multiplications.
template <typename F>
void as_team(int64_t multiplications, int64_t phases, const F& work) {
  constexpr int64_t WORTH_A_THREAD = 500'000;    // about 15 microseconds
  constexpr int64_t WORTH_WAITING = 400'000'000;  // about 10 milliseconds, more than a thread that isn't running waits
  const bool alone = at::in_parallel_region() || (multiplications * phases < WORTH_WAITING && Crowd::noticed());
  const int64_t threads = alone ? 1 : at::get_num_threads();
  const int64_t members = std::max<int64_t>(1, std::min(threads, multiplications / WORTH_A_THREAD));
  Team team(members);
  int64_t done = 0;
  // Should there be fewer threads than members, the first does the work of those to come, who then find nothing to do.
  at::parallel_for(0, members, 1, [&](int64_t begin, int64_t end) {
    for (int64_t number = begin; number < end; number++) {
      Team::Member member(team, number);
      work(member);
      if (number == 0) done = Crowd::now();
    }
  });
  if (members > 1) Crowd::notice(Crowd::now() - done);
}
