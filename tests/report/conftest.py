"""For all tests of the room's folders: `report_example`, and the browser."""
