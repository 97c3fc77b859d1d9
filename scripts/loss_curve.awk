# Draws the loss curve of a run in the terminal: awk -f scripts/loss_curve.awk RUN/metrics.jsonl
# Training loss ('.', mean of the steps in a column) and validation ('o'), both in bits per byte: for
# the byte tokenizer one token is one byte, so bits per byte = loss in nats / ln 2.

function number(key,    text) {
  if (!match($0, "\"" key "\": *-?[0-9][0-9.eE+-]*")) return "none"
  text = substr($0, RSTART, RLENGTH)
  sub(/^[^:]*: */, "", text)
  return text + 0
}

function note(value) {
  if (points++ == 0) low = high = value
  if (value < low) low = value
  if (value > high) high = value
}

function put(column, value, mark) { canvas[int((high - value) / span * (rows - 1) + 0.5), column] = mark }

BEGIN { columns = 66; rows = 16 }

{
  step = number("step")
  if (step == "none") next
  if (step > last_step) last_step = step
  if ($0 ~ /"split": *"validation"/) {
    value = number("bits_per_byte")
    if (value != "none") { validation[step] = value; note(value) }
  } else {
    value = number("loss")
    if (value != "none") training[step] = value / log(2)
  }
}

END {
  for (step in training) {
    column = int((step - 0.5) / last_step * columns)
    sum[column] += training[step]
    count[column]++
  }
  for (column in sum) note(sum[column] / count[column])
  if (points == 0) {
    print "no losses in " FILENAME
    exit 1
  }
  span = high > low ? high - low : 1
  for (column in sum) put(column, sum[column] / count[column], ".")
  for (step in validation) put(int((step - 0.5) / last_step * columns), validation[step], "o")

  print "bits per byte    . training    o validation"
  for (row = 0; row < rows; row++) {
    line = ""
    for (column = 0; column < columns; column++)
      line = line ((row, column) in canvas ? canvas[row, column] : " ")
    sub(/ +$/, "", line)
    printf "%6.2f |%s\n", high - row / (rows - 1) * span, line
  }
  axis = sprintf("%" columns "s", "")
  gsub(/ /, "-", axis)
  printf "       +%s\n", axis
  printf "        step 1%" (columns - 6) "d\n", last_step
}
