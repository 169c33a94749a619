/** What is carried when a channel or a tile is dragged. Types of our own, so that files and text
 * dropped by mistake mean nothing. */

const CHANNEL = 'application/x-vsp-channel'
const PLACE = 'application/x-vsp-place'

export function carryChannel(event: DragEvent, channelId: string, name: string): void {
  event.dataTransfer?.setData(CHANNEL, channelId)
  event.dataTransfer?.setData('text/plain', name)
  if (event.dataTransfer) event.dataTransfer.effectAllowed = 'copy'
}

export function carryPlace(event: DragEvent, place: number): void {
  event.dataTransfer?.setData(PLACE, String(place))
  if (event.dataTransfer) event.dataTransfer.effectAllowed = 'move'
}

export function carriesOurs(event: DragEvent): boolean {
  const types = event.dataTransfer?.types ?? []
  return types.includes(CHANNEL) || types.includes(PLACE)
}

export function carriedChannel(event: DragEvent): string | null {
  return event.dataTransfer?.getData(CHANNEL) || null
}

export function carriedPlace(event: DragEvent): number | null {
  const text = event.dataTransfer?.getData(PLACE)
  return text ? Number(text) : null
}
