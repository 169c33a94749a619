"""Commands that change the register while no console is at hand: users, devices, the audit chain.

They open the database themselves and write through the same actions as the console, as the actor
"cli", so that they are permitted, checked and audited alike. On the embedded default the running
node sees a new device at its next REGISTER.
"""

from __future__ import annotations
