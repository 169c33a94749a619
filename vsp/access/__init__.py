"""Who may: one pure decision (`policy`), the only door to objects (`scope`), sign-in (`authn`,
`passwords`), media tickets (`ticket`) and the platform's own certificate (`tls`).

Nothing here imports `sip`, `media` or `store`; what it needs of them it receives as ports.
"""
