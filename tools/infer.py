"""Predict all images of a folder or a list, into a Parquet table."""

from mmscope.cli.infer import main

if __name__ == '__main__':
    main()
