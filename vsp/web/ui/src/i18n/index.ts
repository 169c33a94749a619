/** Two languages, Chinese first. One JSON file a language; a test holds their keys equal. */
import { createI18n } from 'vue-i18n'
import en from './en.json'
import zh from './zh.json'

export const LOCALES = ['zh', 'en'] as const
export type Locale = (typeof LOCALES)[number]

export const i18n = createI18n({
  legacy: false,
  locale: 'zh',
  fallbackLocale: 'zh',
  messages: { zh, en },
})
