"""miniImageNet: 100 classes of ImageNet, by a split of your own.

No split comes with this package: the paper names none, and the usual one is
made for few-shot learning, where training and test have other classes. Three
ways to say which images are meant:

1. Folders, MMSCOPE_MINIIMAGENET (default data/miniimagenet) with
   `train/<class>/*` and `val/<class>/*`. Where there is train alone,
   `tools/dataset_converters/hold_out.py TRAIN VAL --count 100` makes val.
2. A list of 100 class folders of a complete ImageNet, one per line:
   MMSCOPE_MINIIMAGENET=data/imagenet MMSCOPE_MINIIMAGENET_CLASSES=FILE.
3. Two lists of images with 'path label' lines, labels from 0 to 99:
   --cfg-options train_dataloader.dataset.ann_file=train.txt
   val_dataloader.dataset.ann_file=val.txt
   test_dataloader.dataset.ann_file=val.txt
"""

_base_ = './imagenet.py'

dataset = dict(
    data_root='{{$MMSCOPE_MINIIMAGENET:data/miniimagenet}}',
    class_list='{{$MMSCOPE_MINIIMAGENET_CLASSES:all}}',
)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
