/** Painting the timeline. Knows pixels and colours; what they mean was decided elsewhere. */
import { endOf, type Coverage } from './spans'
import { ticks, timeAt, widthMs, xOf, zoneOffsetMs, type Window } from './scale'

/** Strip above the lanes for the cursor's flag. */
export const HEAD_PX = 20
export const LANE_PX = 22
const LANE_GAP_PX = 5
/** Strip below the lanes for the ticks. */
export const FOOT_PX = 22

export interface Lane {
  id: string
  name: string
  cover: Coverage
}

export interface Scene {
  view: Window
  lanes: Lane[]
  focus: number
  nowMs: number
  cursorMs: number | null
  /** Where a drag would seek to. */
  scrubMs: number | null
  hoverX: number | null
  cursorLabel: string
}

export interface Paint {
  lane: string
  span: string
  hatch: string
  warn: string
  bad: string
  brand: string
  line: string
  strong: string
  text: string
  text2: string
  text3: string
  surface: string
  mono: string
  font: string
}

export function heightPx(lanes: number): number {
  return HEAD_PX + Math.max(1, lanes) * (LANE_PX + LANE_GAP_PX) + FOOT_PX
}

export function laneTop(at: number): number {
  return HEAD_PX + at * (LANE_PX + LANE_GAP_PX)
}

/** Lane under a y coordinate, or -1. */
export function laneAt(y: number, lanes: number): number {
  const at = Math.floor((y - HEAD_PX) / (LANE_PX + LANE_GAP_PX))
  return at >= 0 && at < lanes ? at : -1
}

export function readPaint(element: Element): Paint {
  const style = getComputedStyle(element)
  const token = (name: string): string => style.getPropertyValue(`--${name}`).trim()
  return {
    lane: token('lane'),
    span: token('span'),
    hatch: token('hatch'),
    warn: token('warn'),
    bad: token('bad'),
    brand: token('brand'),
    line: token('line'),
    strong: token('line-strong'),
    text: token('text'),
    text2: token('text-2'),
    text3: token('text-3'),
    surface: token('surface'),
    mono: token('mono'),
    font: token('font'),
  }
}

type Pen = CanvasRenderingContext2D

export function draw(pen: Pen, width: number, height: number, scene: Scene, paint: Paint): void {
  pen.clearRect(0, 0, width, height)
  drawTicks(pen, width, height, scene, paint)
  scene.lanes.forEach((lane, at) => drawLane(pen, width, laneTop(at), lane, at, scene, paint))
  drawNow(pen, width, height, scene, paint)
  drawHover(pen, height, scene, paint)
  drawCursor(pen, width, height, scene, paint)
}

function drawTicks(pen: Pen, width: number, height: number, { view }: Scene, paint: Paint): void {
  pen.font = `10px ${paint.mono}`
  pen.textAlign = 'center'
  pen.textBaseline = 'alphabetic'
  for (const tick of ticks(view, width, zoneOffsetMs)) {
    const x = Math.round(xOf(view, tick.atMs, width)) + 0.5
    pen.strokeStyle = tick.major ? paint.strong : paint.line
    line(pen, x, HEAD_PX - 4, x, height - FOOT_PX + 4)
    pen.fillStyle = tick.major ? paint.text2 : paint.text3
    pen.fillText(tick.label, Math.min(width - 18, Math.max(18, x)), height - 6)
  }
}

function drawLane(
  pen: Pen,
  width: number,
  top: number,
  lane: Lane,
  at: number,
  scene: Scene,
  paint: Paint,
): void {
  pen.fillStyle = paint.lane
  rounded(pen, 0, top, width, LANE_PX)
  pen.save()
  pen.beginPath()
  pen.roundRect(0, top, width, LANE_PX, 3)
  pen.clip()
  drawGaps(pen, width, top, lane.cover, scene, paint)
  drawSpans(pen, width, top, lane.cover, scene, paint)
  pen.restore()
  drawName(pen, top, lane.name, scene.lanes.length > 1 && at === scene.focus, paint)
}

function drawSpans(pen: Pen, width: number, top: number, cover: Coverage, scene: Scene, paint: Paint): void {
  for (const span of cover.spans) {
    const [x, w] = extent(scene.view, span.fromMs, endOf(span, scene.nowMs), width)
    if (w <= 0) continue
    pen.fillStyle = paint.span
    pen.fillRect(x, top, w, LANE_PX)
    if (span.damaged > 0) {
      pen.fillStyle = paint.warn
      pen.fillRect(x, top + LANE_PX - 3, w, 3)
    }
    if (span.open) {
      pen.fillStyle = paint.brand
      pen.fillRect(x + w - 2, top, 2, LANE_PX)
    }
  }
}

function drawGaps(pen: Pen, width: number, top: number, cover: Coverage, scene: Scene, paint: Paint): void {
  for (const gap of cover.gaps) {
    if (gap.cause === 'not_planned') continue // nobody asked for a recording: not a loss
    const [x, w] = extent(scene.view, gap.fromMs, gap.toMs, width)
    if (w > 0) hatch(pen, x, top, w, LANE_PX, paint.hatch)
  }
}

/** Clipped to the canvas; at least a pixel wide, because a second that exists must be seen. */
function extent(view: Window, fromMs: number, toMs: number, width: number): [number, number] {
  const left = Math.max(0, xOf(view, fromMs, width))
  const right = Math.min(width, xOf(view, toMs, width))
  return right < 0 || left > width ? [0, 0] : [left, Math.max(1, right - left)]
}

function hatch(pen: Pen, x: number, y: number, w: number, h: number, colour: string): void {
  pen.save()
  pen.beginPath()
  pen.rect(x, y, w, h)
  pen.clip()
  pen.strokeStyle = colour
  pen.lineWidth = 2.5
  pen.beginPath()
  for (let at = Math.floor((x - h) / 7) * 7; at < x + w; at += 7) {
    pen.moveTo(at, y + h)
    pen.lineTo(at + h, y)
  }
  pen.stroke()
  pen.restore()
}

function drawName(pen: Pen, top: number, name: string, focused: boolean, paint: Paint): void {
  pen.font = `${focused ? '600 ' : ''}11px ${paint.font}`
  pen.textAlign = 'left'
  pen.textBaseline = 'middle'
  const w = pen.measureText(name).width
  pen.fillStyle = '#000000a0'
  rounded(pen, 4, top + 3, w + 12, LANE_PX - 6)
  pen.fillStyle = '#ffffff'
  pen.fillText(name, 10, top + LANE_PX / 2 + 0.5)
  if (!focused) return
  pen.fillStyle = paint.brand
  pen.fillRect(0, top, 2, LANE_PX)
}

function drawNow(pen: Pen, width: number, height: number, { view, nowMs }: Scene, paint: Paint): void {
  const x = xOf(view, nowMs, width)
  if (x > width) return
  pen.fillStyle = paint.surface
  pen.globalAlpha = 0.72
  pen.fillRect(Math.max(0, x), HEAD_PX, width - Math.max(0, x), height - HEAD_PX - FOOT_PX)
  pen.globalAlpha = 1
  if (x < 0) return
  pen.strokeStyle = paint.text3
  pen.setLineDash([3, 3])
  line(pen, Math.round(x) + 0.5, HEAD_PX - 4, Math.round(x) + 0.5, height - FOOT_PX)
  pen.setLineDash([])
}

function drawHover(pen: Pen, height: number, { hoverX }: Scene, paint: Paint): void {
  if (hoverX === null) return
  pen.strokeStyle = paint.text3
  line(pen, Math.round(hoverX) + 0.5, HEAD_PX, Math.round(hoverX) + 0.5, height - FOOT_PX)
}

function drawCursor(pen: Pen, width: number, height: number, scene: Scene, paint: Paint): void {
  const atMs = scene.scrubMs ?? scene.cursorMs
  if (atMs === null) return
  const x = xOf(scene.view, atMs, width)
  if (x < 0 || x > width) return
  pen.fillStyle = paint.bad
  pen.fillRect(Math.round(x) - 1, HEAD_PX - 3, 2, height - HEAD_PX - FOOT_PX + 5)
  pen.font = `600 11px ${paint.mono}`
  pen.textAlign = 'center'
  pen.textBaseline = 'middle'
  const w = pen.measureText(scene.cursorLabel).width + 12
  const left = Math.min(width - w, Math.max(0, x - w / 2))
  rounded(pen, left, 0, w, 17)
  pen.fillStyle = '#ffffff'
  pen.fillText(scene.cursorLabel, left + w / 2, 9)
}

function line(pen: Pen, x0: number, y0: number, x1: number, y1: number): void {
  pen.lineWidth = 1
  pen.beginPath()
  pen.moveTo(x0, y0)
  pen.lineTo(x1, y1)
  pen.stroke()
}

function rounded(pen: Pen, x: number, y: number, w: number, h: number): void {
  pen.beginPath()
  pen.roundRect(x, y, w, h, 3)
  pen.fill()
}

/** Pixels around the cursor line that still mean the cursor. */
const GRAB_PX = 7

/** What a press at (x, y) takes hold of. */
export function grabbed(scene: Scene, x: number, y: number, width: number): 'cursor' | 'paper' {
  if (y < HEAD_PX) return 'cursor'
  const at = scene.cursorMs === null ? null : xOf(scene.view, scene.cursorMs, width)
  return at !== null && Math.abs(at - x) <= GRAB_PX ? 'cursor' : 'paper'
}

/** Milliseconds that one pixel stands for. */
export function msPerPx(view: Window, width: number): number {
  return widthMs(view) / Math.max(1, width)
}

export { timeAt }
