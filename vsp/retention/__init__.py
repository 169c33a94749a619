"""How long it is kept: rules, holds, deletion and certificates join here; nothing deletes yet."""
