#include "coordinator/training/in_flight.h"

#include <algorithm>
#include <optional>

#include "cluster/signals.h"
#include "coordinator/crew/crew.h"
#include "worker/model/key_values.h"

namespace svfleet {
namespace {

// Whether the replies of a further piece fit beside those that are being written.
bool has_room(const Flight& flight, const Sampler& sampler) {
  const int64_t rows = sampler.rows() + flight.piece_rows;
  if (rows > flight.limit.rows) return false;
  if (flight.limit.bytes == 0) return true;
  // A row's last page may be empty but for one token. The prompts of the next piece are not known
  // yet: as long as those that are.
  const int64_t tokens = sampler.longest_prompt() + flight.longest_reply + kPageTokens;
  return rows * tokens * bytes_a_token(*flight.base.weights) <= flight.limit.bytes;
}

// False where there is none for this worker.
bool begin_one(Hand& hand, const Flight& flight, std::optional<Sampler>& sampler) {
  const std::optional<int> piece = hand.take();
  if (!piece) return false;
  std::vector<ChunkWork> works = flight.works(*piece);
  if (!sampler) sampler.emplace(flight.base, works.front(), flight.replies);
  sampler->begin(*piece, std::move(works));
  return true;
}

void finish(Hand& hand, const Flight& flight, const Sampler::Piece& piece) {
  hand.at({piece.number});
  flight.keep(finish_together(flight.base, piece.works, piece.sampled, piece.seconds));
  hand.finished(piece.number);
}

// To a worker that has nothing to do: a piece whose replies are all there, if there is one and this
// worker keeps another.
void give_one(Hand& hand, const Flight& flight, Sampler& sampler) {
  if (hand.size() < 2 || !sampler.has_finished() || !flight.handover.promise()) return;
  Sampler::Piece piece = *sampler.take_finished();
  Hand::Held held = hand.give(piece.number);
  flight.handover.give({std::move(held), std::move(piece)});
}

}  // namespace

FlightLimit flight_limit(int64_t rows_per_worker) {
  if (rows_per_worker == 0) return {kAutoRows, kAutoRowBytes};
  return {rows_per_worker, 0};
}

void work_in_flight(Hand& hand, const Flight& flight) {
  const Handover::Presence presence(flight.handover);
  std::optional<Sampler> sampler;
  while (true) {
    if (hand.size() > 0 && stop_requested()) throw StopWork{};
    const bool writing = sampler && sampler->rows() > 0, alone = flight.handover.alone();
    const auto begin = [&] {
      return (!writing || has_room(flight, *sampler)) && begin_one(hand, flight, sampler);
    };
    if (writing && !alone) {
      const int64_t rows = sampler->rows();
      if (begin() && sampler->rows() > rows) continue;
    }
    if (sampler) give_one(hand, flight, *sampler);
    std::optional<Sampler::Piece> finished;
    // While replies are written that nothing can join any more, others may come to be free for it.
    if (sampler && !(writing && hand.nothing_left() && !alone)) finished = sampler->take_finished();
    if (finished) {
      finish(hand, flight, *finished);
    } else if (begin()) {
      continue;
    } else if (writing) {
      hand.at(sampler->unfinished());
      sampler->step();
    } else if (auto given = flight.handover.wait()) {
      hand.receive(given->piece.number, std::move(given->held));
      if (stop_requested()) throw StopWork{};
      finish(hand, flight, given->piece);
    } else {
      return;
    }
  }
}

}  // namespace svfleet
