"""Every file in and out. The only room that touches frames other than LPS."""
