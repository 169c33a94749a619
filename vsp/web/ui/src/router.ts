/** The pages. Every page but sign-in asks for a session first. */
import { createRouter, createWebHashHistory } from 'vue-router'
import { currentUser } from './stores/session'

export const router = createRouter({
  // The address after `#` never reaches the server, so every deep link works behind any proxy.
  history: createWebHashHistory(),
  routes: [
    { path: '/sign-in', name: 'sign-in', component: () => import('./pages/SignInPage.vue') },
    { path: '/password', name: 'password', component: () => import('./pages/PasswordPage.vue') },
    {
      path: '/',
      component: () => import('./components/AppFrame.vue'),
      children: [
        { path: '', redirect: '/live' },
        { path: 'live', name: 'live', component: () => import('./pages/LivePage.vue') },
        { path: 'playback', name: 'playback', component: () => import('./pages/PlaybackPage.vue') },
        { path: 'devices', name: 'devices', component: () => import('./pages/DevicesPage.vue') },
        {
          path: 'devices/:id',
          name: 'device',
          component: () => import('./pages/DevicePage.vue'),
          props: true,
        },
        {
          path: 'candidates',
          name: 'candidates',
          component: () => import('./pages/CandidatesPage.vue'),
        },
        { path: 'audit', name: 'audit', component: () => import('./pages/AuditPage.vue') },
      ],
    },
    { path: '/:rest(.*)*', redirect: '/live' },
  ],
})

router.beforeEach(async (to) => {
  if (to.name === 'sign-in') return true
  let user
  try {
    user = await currentUser()
  } catch {
    return { name: 'sign-in', query: { next: to.fullPath, why: 'unreachable' } }
  }
  if (!user) return { name: 'sign-in', query: { next: to.fullPath } }
  if (user.must_change_password && to.name !== 'password') {
    return { name: 'password', query: { next: to.fullPath } }
  }
  return true
})
