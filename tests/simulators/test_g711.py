import av
import numpy as np

from simulators.g711 import PACKET_SAMPLES, a_law, tone_packet


def decoded(octets: bytes) -> np.ndarray:
    """By FFmpeg's A-law decoder."""
    decoder = av.CodecContext.create("pcm_alaw", "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    return np.concatenate([f.to_ndarray()[0] for f in decoder.decode(av.Packet(octets))])


def test_every_octet_is_reached_and_comes_back_by_the_public_decoder():
    every = bytes(range(256))

    samples = decoded(every)

    assert a_law(samples.astype(np.int16)) == every


def test_any_sample_is_off_by_no_more_than_a_step():
    samples = np.arange(-32768, 32768, 7).astype(np.int16)

    heard = decoded(a_law(samples)).astype(int)

    wrong = np.abs(heard - samples.astype(int))
    assert (wrong <= np.maximum(16, np.abs(samples.astype(int)) // 16)).all()


def test_packets_of_a_tone_join_without_a_click():
    packet = tone_packet(1000)

    heard = decoded(packet * 3).astype(float)

    assert len(packet) == PACKET_SAMPLES
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum.argmax() * 8000 / len(heard) == 1000
    assert spectrum.max() ** 2 > 0.98 * (spectrum**2).sum()
