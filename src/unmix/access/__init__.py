"""Who may ask for what: keys, what is signed for those who have one, and who is served without. Rules without HTTP."""
