"""Write metafile.yml of each folder of configs, and model-index.yml."""

from mmscope.cli.metafiles import main

if __name__ == '__main__':
    main()
