"""Whether it is there (check, mend, reconcile) and how long it is kept: rules, holds, deletion and
certificates join here; nothing deletes yet."""
