"""Picture files taken apart, without decoding a pixel: `files` finds out what one is, a module a format reads it."""
