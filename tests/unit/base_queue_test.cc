#include "base/queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace baize {
namespace {

TEST(Queue, FirstInFirstOut) {
  Queue<int> queue;
  EXPECT_EQ(queue.try_pop(), std::nullopt);
  EXPECT_TRUE(queue.push(1));
  EXPECT_TRUE(queue.push(2));
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_EQ(queue.try_pop(), 2);
  EXPECT_EQ(queue.try_pop(), std::nullopt);
}

TEST(Queue, CloseKeepsWhatIsQueuedAndRefusesMore) {
  Queue<std::unique_ptr<int>> queue;
  queue.push(std::make_unique<int>(7));
  queue.close();
  EXPECT_FALSE(queue.push(std::make_unique<int>(8)));
  EXPECT_EQ(*queue.pop().value(), 7);
  EXPECT_FALSE(queue.pop().has_value());
}

TEST(Queue, CloseWakesEveryWaiter) {
  Queue<int> queue;
  std::atomic<int> ended = 0;
  std::vector<std::jthread> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.emplace_back([&] {
      EXPECT_FALSE(queue.pop().has_value());
      ++ended;
    });
  }
  queue.close();
  waiters.clear();  // joins
  EXPECT_EQ(ended, 3);
}

TEST(Queue, ManyProducersAndConsumersLoseNothing) {
  constexpr int kProducers = 4, kConsumers = 3, kEach = 2000;
  Queue<int> queue;
  std::atomic<int64_t> sum = 0;
  std::atomic<int> count = 0;
  std::vector<std::jthread> consumers, producers;
  for (int c = 0; c < kConsumers; ++c) {
    consumers.emplace_back([&] {
      while (const std::optional<int> item = queue.pop()) {
        sum += *item;
        ++count;
      }
    });
  }
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&queue, p] {
      for (int i = 0; i < kEach; ++i) queue.push(p * kEach + i);
    });
  }
  producers.clear();
  queue.close();
  consumers.clear();
  constexpr int64_t kTotal = kProducers * kEach;
  EXPECT_EQ(count, kTotal);
  EXPECT_EQ(sum, kTotal * (kTotal - 1) / 2);
}

}  // namespace
}  // namespace baize
