"""From a checkout: `python cli.py run graphs/t2v-tiny.yaml` is the installed `wanflow`."""

from wanflow.__main__ import main

if __name__ == "__main__":
    main()
