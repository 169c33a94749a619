/** Passwords for devices: long, random, and typable on a camera's remote control. */

/** No 0 O 1 l I: they are read aloud over the telephone to whoever stands at the camera. */
const ALPHABET = 'abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789'

/** 16 of 56 characters are 92 bits; many cameras refuse more than 16. */
export const PASSWORD_LENGTH = 16

export function newPassword(random: (n: number) => Uint8Array = randomBytes): string {
  let text = ''
  while (text.length < PASSWORD_LENGTH || !isMixed(text)) {
    if (text.length >= PASSWORD_LENGTH) text = ''
    for (const byte of random(32)) {
      // Bytes at or above the largest multiple are thrown away, so that no letter is favoured.
      if (byte >= 256 - (256 % ALPHABET.length)) continue
      text += ALPHABET[byte % ALPHABET.length]
      if (text.length === PASSWORD_LENGTH) break
    }
  }
  return text
}

/** Many devices insist on all three classes. */
function isMixed(text: string): boolean {
  return /[a-z]/.test(text) && /[A-Z]/.test(text) && /[0-9]/.test(text)
}

function randomBytes(n: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(n))
}
