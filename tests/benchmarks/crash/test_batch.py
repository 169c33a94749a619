from benchmarks.crash.batch import Sample, Scene, held_by, key_us

WORKER = "worker-0"
S = 1_000_000


def sample(at_s: float, **places: str) -> Sample:
    return Sample(round(at_s * S), places)


def test_a_worker_held_what_it_received_by_the_last_word_before_its_death():
    samples = [sample(1, a=WORKER, b="worker-1"), sample(2, a="worker-1", b=WORKER)]

    assert held_by(WORKER, 10 * S, samples) == {"b"}
    assert held_by("worker-1", 10 * S, samples) == {"a"}


def test_what_it_received_a_moment_later_counts_too():
    """It may have been given to the worker between the last word and its death."""
    samples = [sample(1, a=WORKER), sample(2.4, a=WORKER, b=WORKER), sample(9, c=WORKER)]

    assert held_by(WORKER, 2 * S, samples) == {"a", "b"}


def test_nobody_has_said_anything_yet():
    assert held_by(WORKER, S, []) == frozenset()


def test_a_stream_without_a_key_picture_began_before_every_death():
    assert key_us({"stats": {"first_key_at": None}}) == 0
    assert key_us({"stats": {"first_key_at": "1970-01-01T00:00:01.500000Z"}}) == 1_500_000


def test_key_pictures_are_two_seconds_apart_whatever_the_rate():
    assert Scene(fps=10).words == ["--size", "640x360", "--fps", "10", "--gop", "20"]
    assert Scene(audio=False).words[-1] == "--no-audio"
