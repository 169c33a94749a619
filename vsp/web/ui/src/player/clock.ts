/** Which moment a media time shows. Points come from the server, at start and after each break. */

export interface ClockPoint {
  mediaS: number
  timeMs: number
}

/** Points kept. One comes with each discontinuity; older ones are long out of the buffer. */
export const CLOCK_POINTS_MAX = 256

export class MediaClock {
  private points: ClockPoint[] = []

  clear(): void {
    this.points = []
  }

  get known(): boolean {
    return this.points.length > 0
  }

  /** Points stay in order of media time; a later word about the same or earlier time wins. */
  add(point: ClockPoint): void {
    this.points = this.points.filter((old) => old.mediaS < point.mediaS - 0.001)
    this.points.push(point)
    if (this.points.length > CLOCK_POINTS_MAX) this.points.shift()
  }

  /** Wall time shown at `mediaS`; null before anything is known. */
  wallMs(mediaS: number): number | null {
    const point = this.pointAt(mediaS)
    return point ? point.timeMs + (mediaS - point.mediaS) * 1000 : null
  }

  /** Media time that shows `wallMs`, by the last point that begins at or before it. */
  mediaS(wallMs: number): number | null {
    let best: ClockPoint | undefined
    for (const point of this.points) {
      if (point.timeMs <= wallMs || !best) best = point
    }
    return best ? best.mediaS + (wallMs - best.timeMs) / 1000 : null
  }

  private pointAt(mediaS: number): ClockPoint | undefined {
    let found = this.points[0]
    for (const point of this.points) {
      if (point.mediaS > mediaS + 0.001) break
      found = point
    }
    return found
  }
}
