/** CSV as spreadsheets want it: BOM for Chinese, CRLF, and no cell that acts as a formula. */

export function toCsv(header: string[], rows: string[][]): string {
  const lines = [header, ...rows].map((row) => row.map(cell).join(','))
  return '\ufeff' + lines.join('\r\n') + '\r\n'
}

function cell(value: string): string {
  // A leading = + - @ or tab would be run as a formula by Excel and WPS.
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

export function download(name: string, text: string, type = 'text/csv;charset=utf-8'): void {
  const url = URL.createObjectURL(new Blob([text], { type }))
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  URL.revokeObjectURL(url)
}

/**
 * The text of an imported file. Spreadsheets on Chinese Windows save CSV as GB18030 without saying
 * so; bytes that are not UTF-8 are therefore read as GB18030.
 */
export function decodeCsv(bytes: ArrayBuffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return new TextDecoder('gb18030').decode(bytes)
  }
}
