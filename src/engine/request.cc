#include "engine/request.h"

#include "base/check.h"

namespace baize {

void RequestState::emit(Event event) {
  events.push(std::move(event));
  if (notify) notify();
}

Event RequestHandle::next() {
  std::optional<Event> event = state_->events.pop();
  BAIZE_CHECK(event.has_value());
  return std::move(*event);
}

}  // namespace baize
