"""Why an image is shown to a person who reviews labels; in the order in which they are looked at."""

CONFLICT = "label conflict"  # the same picture stands under another class
DOUBT = "doubtful label"  # rules that have not learned this label find another class more probable
LOSS = "high loss"  # the model itself does, though it may have learned the label
THRESHOLD = "near threshold"  # little would change what the model decides
DUPLICATE = "duplicate"  # the same picture is there more than once
REASONS = (CONFLICT, DOUBT, LOSS, THRESHOLD, DUPLICATE)
