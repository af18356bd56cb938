#include "store/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

extern char** environ;

namespace baize::store {

namespace {
constexpr size_t kKeptErrors = 8 * 1024;

struct Pipe {
  Fd read, write;
};

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail(ErrorKind::kIo, "cannot make a pipe: {}", strerror(errno));
  return {Fd(ends[0]), Fd(ends[1])};
}

// The child, ended and reaped at the latest when this goes out of scope.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  ~Child() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t pid_;
};

pid_t spawn(const ProcessCall& call, int output, int errors) {
  std::vector<char*> arguments;
  for (const std::string& argument : call.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::vector<std::string> added;
  for (const auto& [name, value] : call.environment) added.push_back(name + "=" + value);
  std::vector<char*> environment;
  for (std::string& text : added) environment.push_back(text.data());
  for (char** entry = environ; *entry != nullptr; ++entry) {
    bool replaced = false;
    const std::string_view old(*entry);
    for (const auto& [name, value] : call.environment) {
      replaced = replaced || (old.starts_with(name) && old.substr(name.size()).starts_with('='));
    }
    if (!replaced) environment.push_back(*entry);
  }
  environment.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) fail(ErrorKind::kNotFound, "the program {} is not installed", call.arguments[0]);
  if (error != 0) fail(ErrorKind::kIo, "cannot start {}: {}", call.arguments[0], strerror(error));
  return pid;
}

// Reads once; false at the end of the stream.
template <typename Use>
bool read_once(Fd& fd, std::vector<char>& buffer, Use use) {
  const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  if (got <= 0) {
    fd.close();
    return false;
  }
  use(std::span<const char>(buffer.data(), static_cast<size_t>(got)));
  return true;
}
}  // namespace

ProcessResult run_process(const ProcessCall& call) {
  Pipe output = make_pipe();
  Pipe errors = make_pipe();
  Child child(spawn(call, output.write.get(), errors.write.get()));
  output.write.close();
  errors.write.close();
  ProcessResult result;
  std::vector<char> buffer(size_t{256} << 10);
  while (output.read.get() >= 0 || errors.read.get() >= 0) {
    if (call.tick) call.tick();
    pollfd waits[2] = {{output.read.get(), POLLIN, 0}, {errors.read.get(), POLLIN, 0}};  // closed ones are -1: ignored
    if (::poll(waits, 2, 200) <= 0) continue;
    if (waits[0].revents != 0) {
      read_once(output.read, buffer, [&](std::span<const char> bytes) {
        if (call.output) call.output(bytes);
      });
    }
    if (waits[1].revents != 0) {
      read_once(errors.read, buffer, [&](std::span<const char> bytes) {
        result.errors.append(bytes.data(), bytes.size());
        if (result.errors.size() > kKeptErrors) result.errors.erase(0, result.errors.size() - kKeptErrors);
      });
    }
  }
  result.status = child.wait();
  return result;
}

}  // namespace baize::store
