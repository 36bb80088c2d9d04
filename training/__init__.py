"""Everything that made the bundled `demo` model: songs, stems, training, figures, export.

The flow: `songs` composes → `render` plays (soundfont, `voice`) → `mix` balances → `library`
keeps stems on disk → `train` fits `model` → `export` writes the weights → `evaluate` judges them.
Nothing here is imported by the service.
"""
