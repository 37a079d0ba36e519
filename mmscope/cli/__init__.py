"""Command lines: parsers and entry points; nothing else imports them."""
