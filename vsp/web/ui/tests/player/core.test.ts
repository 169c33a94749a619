/** The player's life on a clock of our own: no socket, no DOM, no waiting. */
import { describe, expect, test } from 'vitest'
import {
  CONNECT_TIMEOUT_MS,
  FROZEN_AFTER_MS,
  PlayerCore,
  SILENT_AFTER_MS,
  STALL_AFTER_MS,
  SUSPEND_AFTER_MS,
  type Action,
  type PlayerMode,
} from '@/player/core'

const VIEW = { view_id: 'v1', url: 'ws://w/live/v1', ticket: 'a+b', expires_at: '' }
const PIECE = new ArrayBuffer(8)

function core(mode: PlayerMode = 'live', startMs: number | null = null): PlayerCore {
  return new PlayerCore({ mode, startMs, random: () => 0.5 })
}

const kinds = (actions: Action[]): string[] => actions.map((action) => action.do)
const say = (player: PlayerCore, message: object, now: number): void =>
  player.text(JSON.stringify(message), now)

/** A player whose socket is open at `now`. */
function opened(mode: PlayerMode = 'live', startMs: number | null = null, now = 0): PlayerCore {
  const player = core(mode, startMs)
  player.start(now)
  player.viewOpened(VIEW, now)
  player.socketOpened(now)
  player.take()
  return player
}

function playing(now = 0): PlayerCore {
  const player = opened('live', null, now)
  say(player, { type: 'init', mime: 'video/mp4; codecs="avc1.42C01E"', codec: 'h264' }, now)
  player.binary(PIECE, now)
  player.binary(PIECE, now)
  player.frameShown(1, now)
  player.take()
  return player
}

describe('opening', () => {
  test('asks for a view, connects with the ticket escaped, and resets on an open socket', () => {
    const player = core()

    player.start(0)
    expect(player.take()).toEqual([{ do: 'open_view', startMs: null }])
    player.viewOpened(VIEW, 10)
    expect(player.take()).toEqual([{ do: 'connect', url: 'ws://w/live/v1?ticket=a%2Bb' }])
    player.socketOpened(20)

    expect(kinds(player.take())).toEqual(['reset'])
    expect(player.state(20)).toBe('signalling')
  })

  test('keeps a query that the address already has', () => {
    const player = core()
    player.start(0)
    player.take()

    player.viewOpened({ ...VIEW, url: 'ws://w/live/v1?x=1' }, 0)

    expect(player.take()).toEqual([{ do: 'connect', url: 'ws://w/live/v1?x=1&ticket=a%2Bb' }])
  })

  test('a view that arrives after the owner has stopped is closed, not connected', () => {
    const player = core()
    player.start(0)
    player.stop(1)
    player.take()

    player.viewOpened(VIEW, 2)

    expect(player.take()).toEqual([{ do: 'close_view', viewId: 'v1' }])
  })

  test('a socket that does not open in time is left, its view closed, and tried again', () => {
    const player = core()
    player.start(0)
    player.viewOpened(VIEW, 0)
    player.take()

    player.advance(CONNECT_TIMEOUT_MS - 1)
    expect(player.take()).toEqual([])
    player.advance(CONNECT_TIMEOUT_MS)

    expect(kinds(player.take())).toEqual(['disconnect', 'close_view'])
    expect(player.state(CONNECT_TIMEOUT_MS)).toBe('failed')
    player.advance(CONNECT_TIMEOUT_MS + 600)
    expect(kinds(player.take())).toEqual(['open_view'])
  })
})

describe('the words of a tile', () => {
  test.each(['signalling', 'waiting_media', 'waiting_keyframe'])('%s is told as it is', (word) => {
    const player = opened()

    say(player, { type: 'state', state: word, cause: 'because', next_step: 'do' }, 5)

    expect(player.state(5)).toBe(word)
    expect(player.cause).toBe('because')
    expect(player.nextStep).toBe('do')
  })

  test('a server that says playing is not believed before a frame is shown', () => {
    const player = opened()
    say(player, { type: 'state', state: 'playing' }, 5)
    say(player, { type: 'init', mime: 'm' }, 5)
    expect(player.state(5)).toBe('waiting_keyframe')

    player.frameShown(1, 10)

    expect(player.state(10)).toBe('playing')
  })

  test('no frame for a while is a stall, and the next frame ends it', () => {
    const player = playing()

    expect(player.state(STALL_AFTER_MS)).toBe('playing')
    expect(player.state(STALL_AFTER_MS + 1)).toBe('stalled')
    player.frameShown(2, STALL_AFTER_MS + 2)

    expect(player.state(STALL_AFTER_MS + 3)).toBe('playing')
  })

  test('the time in a state counts from its beginning', () => {
    const player = opened()
    say(player, { type: 'state', state: 'waiting_media' }, 1000)
    player.advance(1000)

    player.advance(4000)

    expect(player.sinceMs(4000)).toBe(3000)
  })
})

describe('trouble', () => {
  test('a lost socket asks for a new view by itself, later each time', () => {
    const player = playing()
    player.socketClosed(1000)
    expect(kinds(player.take())).not.toContain('open_view')
    expect(player.retryInMs(1000)).toBe(500)

    player.advance(1500)
    expect(kinds(player.take())).toEqual(['open_view'])
    player.viewFailed({ kind: 'unavailable', message: 'x', cause: '', nextStep: '' }, 1600)

    expect(player.retryInMs(1600)).toBe(1000)
  })

  test.each(['denied', 'unsupported', 'invalid'] as const)(
    '%s is final until a person asks again',
    (kind) => {
      const player = core()
      player.start(0)
      player.viewFailed({ kind, message: 'no', cause: 'c', nextStep: 'n' }, 1)
      player.take()

      player.advance(3_600_000)
      expect(player.take()).toEqual([])
      expect(player.retryInMs(3_600_000)).toBeNull()
      player.retry(3_600_001)

      expect(kinds(player.take())).toEqual(['open_view'])
    },
  )

  test('a stream that is not found is looked for again: it may have been lost with its worker', () => {
    const player = core()
    player.start(0)

    player.viewFailed({ kind: 'not_found', message: 'no session', cause: '', nextStep: '' }, 1)

    expect(player.state(1)).toBe('failed')
    expect(player.retryInMs(1)).toBe(500)
  })

  test('a right that is missing has a word of its own', () => {
    const player = core()
    player.start(0)

    player.viewFailed({ kind: 'denied', message: 'no', cause: '', nextStep: '' }, 1)

    expect(player.state(1)).toBe('denied')
  })

  test('an error followed by the end keeps its cause while waiting for the next try', () => {
    const player = opened()
    say(
      player,
      { type: 'error', kind: 'unavailable', message: 'm', cause: 'no_media: x', next_step: 'n' },
      5,
    )
    say(player, { type: 'state', state: 'ended', cause: 'no_media: x' }, 6)
    player.socketClosed(7)

    expect(player.state(7)).toBe('failed')
    expect(player.cause).toBe('no_media: x')
    expect(player.retryInMs(7)).toBeGreaterThan(0)
  })

  test('a complaint about one command does not end a playing view', () => {
    const player = playing()

    say(player, { type: 'error', kind: 'invalid', message: 'command is not understood' }, 10)
    player.binary(PIECE, 20)
    player.frameShown(1.1, 20)

    expect(player.state(21)).toBe('playing')
    expect(player.troubleKind).toBeNull()
  })

  test('fragments without a new frame for long mean a stuck decoder: restart and count', () => {
    const player = playing()
    player.binary(PIECE, FROZEN_AFTER_MS - 10)

    player.advance(FROZEN_AFTER_MS + 1)

    expect(kinds(player.take())).toContain('disconnect')
    player.advance(FROZEN_AFTER_MS + 1000)
    expect(player.restarts).toBe(1)
  })

  test('no fragments and no frames is the stream standing still, not a stuck decoder', () => {
    const player = playing()
    say(player, { type: 'stats' }, FROZEN_AFTER_MS)

    player.advance(FROZEN_AFTER_MS + 1)

    expect(player.restarts).toBe(0)
    expect(player.state(FROZEN_AFTER_MS + 1)).toBe('stalled')
  })

  test('a silent socket is given up while playing, but not while the device is still called', () => {
    const playingOne = playing()
    const callingOne = opened()

    playingOne.advance(SILENT_AFTER_MS + 1)
    callingOne.advance(SILENT_AFTER_MS + 1)

    expect(playingOne.state(SILENT_AFTER_MS + 1)).toBe('failed')
    expect(callingOne.state(SILENT_AFTER_MS + 1)).toBe('signalling')
  })

  test('good news cut a wait short, and change nothing else', () => {
    const player = playing()
    player.nudge(5)
    expect(player.take()).toEqual([])
    player.socketClosed(10)
    player.take()

    player.nudge(11)

    expect(kinds(player.take())).toEqual(['open_view'])
  })

  test('playing well for a while forgets earlier failures', () => {
    const player = playing()
    for (const now of [1, 2, 3]) {
      player.socketClosed(now)
      player.retry(now)
      player.viewOpened(VIEW, now)
      player.socketOpened(now)
    }
    player.frameShown(1, 100)
    player.frameShown(2, 10_000)

    player.socketClosed(10_001)

    expect(player.retryInMs(10_001)).toBe(500)
  })

  test('a browser that cannot decode says which codec, and does not try again', () => {
    const player = opened()

    player.unsupported('video/mp4; codecs="hvc1"', 5)

    expect(player.state(5)).toBe('unsupported')
    expect(player.cause).toContain('hvc1')
    player.advance(1_000_000)
    expect(kinds(player.take())).toEqual(['disconnect'])
  })
})

describe('media', () => {
  test('the first binary after an init text is its segment, the rest are fragments', () => {
    const player = opened()
    say(player, { type: 'init', mime: 'm', codec: 'h264', width: 640, height: 360 }, 1)

    player.binary(PIECE, 2)
    player.binary(PIECE, 3)

    expect(player.take()).toEqual([
      { do: 'init', mime: 'm', data: PIECE },
      { do: 'append', data: PIECE },
    ])
    expect([player.width, player.height]).toEqual([640, 360])
  })

  test('the wall clock of the shown frame follows the last clock that the server told', () => {
    const player = playing()
    say(player, { type: 'clock', media_s: 10, time: '2026-11-22T02:00:00.000Z' }, 5)

    player.frameShown(12.5, 6)

    expect(new Date(player.wallMs() ?? 0).toISOString()).toBe('2026-11-22T02:00:02.500Z')
  })
})

describe('hidden pages', () => {
  test('a live player lets go after a while and comes back at once', () => {
    const player = playing()
    player.setVisible(false, 1000)
    say(player, { type: 'stats' }, 1000 + SUSPEND_AFTER_MS)

    player.advance(1001 + SUSPEND_AFTER_MS)
    expect(player.state(1001 + SUSPEND_AFTER_MS)).toBe('suspended')
    player.take()
    player.setVisible(true, 100_000)

    expect(kinds(player.take())).toEqual(['open_view'])
  })

  test('a short look away changes nothing, and no frames while hidden is no stall', () => {
    const player = playing()
    player.setVisible(false, 1000)

    player.advance(5000)
    expect(player.state(5000)).toBe('playing')
    player.setVisible(true, 6000)

    expect(player.state(6001)).toBe('playing')
    expect(player.take()).toEqual([])
  })
})

describe('seeking', () => {
  const T0 = Date.parse('2026-11-22T02:00:00.000Z')

  function watching(): PlayerCore {
    const player = opened('playback', T0)
    say(player, { type: 'seek', seq: 0, time: iso(T0 - 1000), media_s: 0, target: iso(T0), target_media_s: 1 }, 1)
    say(player, { type: 'init', mime: 'm', seq: 0 }, 1)
    player.binary(PIECE, 1)
    player.binary(PIECE, 1)
    player.frameShown(1, 2)
    player.take()
    return player
  }
  const iso = (ms: number): string => new Date(ms).toISOString()

  test('the start is told to the server, and the target picture is known by its media time', () => {
    const player = core('playback', T0)
    player.start(0)
    expect(player.take()).toEqual([{ do: 'open_view', startMs: T0 }])
    player.viewOpened(VIEW, 0)
    player.socketOpened(0)

    say(player, { type: 'seek', seq: 0, time: iso(T0 - 1000), media_s: 5, target: iso(T0), target_media_s: 6 }, 1)

    expect(player.seekTargetS).toBe(6)
    expect(player.wallMs()).toBe(T0)
  })

  test('fragments of the old place are thrown away until the new seq is announced', () => {
    const player = watching()
    player.seek(T0 + 60_000, 10)
    expect(kinds(player.take())).toEqual(['flush', 'send'])

    player.binary(PIECE, 11)
    expect(player.take()).toEqual([])
    say(player, { type: 'seek', seq: 1, time: iso(T0 + 59_000), media_s: 9 }, 12)
    player.binary(PIECE, 13)

    expect(kinds(player.take())).toEqual(['append'])
  })

  test('two seeks in a row: only the last one counts', () => {
    const player = watching()
    player.seek(T0 + 60_000, 10)
    player.seek(T0 + 90_000, 11)
    player.take()

    say(player, { type: 'seek', seq: 1, time: iso(T0 + 60_000), media_s: 9 }, 12)
    say(player, { type: 'clock', media_s: 9, time: iso(T0 + 60_000) }, 12)
    player.binary(PIECE, 13)
    expect(player.take()).toEqual([])
    expect(player.wallMs()).toBe(T0 + 90_000)
    say(player, { type: 'seek', seq: 2, time: iso(T0 + 90_000), media_s: 20 }, 14)
    player.binary(PIECE, 15)

    expect(kinds(player.take())).toEqual(['append'])
  })

  test('the place sought is shown as the time until a picture of it is there', () => {
    const player = watching()

    player.seek(T0 + 60_000, 10)
    expect(player.wallMs()).toBe(T0 + 60_000)
    say(player, { type: 'seek', seq: 1, time: iso(T0 + 58_000), media_s: 9, target: iso(T0 + 60_000), target_media_s: 11 }, 12)
    player.frameShown(11, 20)

    expect(player.seekingMs).toBeNull()
    expect(player.wallMs()).toBe(T0 + 60_000)
  })

  test('a seek into a gap moves to where the recording goes on', () => {
    const player = watching()
    player.seek(T0 + 60_000, 10)

    say(player, { type: 'gap', from: iso(T0 + 60_000), to: iso(T0 + 90_000), cause: 'nothing recorded' }, 11)
    say(player, { type: 'seek', seq: 1, time: iso(T0 + 90_000), media_s: 9, target: iso(T0 + 90_000), target_media_s: 9 }, 12)

    expect(player.wallMs()).toBe(T0 + 90_000)
  })

  test('a lost socket comes back at the moment that was shown', () => {
    const player = watching()
    player.frameShown(5, 100)

    player.socketClosed(200)
    player.advance(5000)

    expect(player.take()).toContainEqual({ do: 'open_view', startMs: T0 + 4000 })
  })

  test('after the last recording it says ended and waits, without reconnecting', () => {
    const player = watching()
    say(player, { type: 'state', state: 'ended', cause: 'nothing more is recorded' }, 10)

    player.advance(SILENT_AFTER_MS * 4)

    expect(player.state(SILENT_AFTER_MS * 4)).toBe('ended')
    expect(player.take()).toEqual([])
  })

  test('pause and speed are told, also to a socket that opens later', () => {
    const player = watching()
    player.setRate(4)
    player.setPaused(true, 5)
    expect(player.take()).toEqual([
      { do: 'send', message: { rate: 4 } },
      { do: 'send', message: { pause: true } },
    ])

    player.socketClosed(10)
    player.advance(5000)
    player.viewOpened(VIEW, 5000)
    player.take()
    player.socketOpened(5001)

    expect(kinds(player.take())).toEqual(['reset', 'send', 'send'])
    expect(player.state(5001)).not.toBe('failed')
  })
})

describe('hostile or odd words', () => {
  test.each(['', '{', '[]', 'null', '{"type":"state","state":"dancing"}', '{"type":"init"}'])(
    '%s is passed over',
    (text) => {
      const player = playing()

      player.text(text, 10)

      expect(player.state(11)).toBe('playing')
      expect(player.take()).toEqual([])
    },
  )
})
