"`python -m text_embedding` is the `text-embedding` command."
from text_embedding.cli import main

main()
