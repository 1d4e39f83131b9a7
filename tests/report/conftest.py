"""For all tests of the room's folders: a study, and the browser."""
