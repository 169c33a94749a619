/** The 20-digit code of GB/T 28181-2016 annex D, as far as a form can judge it. */

export type GbIdFault = 'length' | 'digits'

export function gbIdFault(text: string): GbIdFault | null {
  if (!/^\d*$/.test(text)) return 'digits'
  return text.length === 20 ? null : 'length'
}

/** What digits 11-13 say it is (table D.1). */
export function gbIdKind(text: string): 'camera' | 'recorder' | 'platform' | 'other' {
  const code = text.slice(10, 13)
  if (code === '131' || code === '132') return 'camera'
  if (['111', '112', '113', '118', '130'].includes(code)) return 'recorder'
  return code === '200' ? 'platform' : 'other'
}
