"""Workers that call the SDKs at random while they are killed, locked out and starved; then the books are checked."""
