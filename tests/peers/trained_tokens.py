#!/usr/bin/env python3
"""Counts the trained tokens of fine-tuning data once more, in plain Python and straight from the rules
of docs/data.md, and compares them and their weights with `braid render --check`.

    python3 tests/peers/trained_tokens.py build/braid [SAMPLES]

SAMPLES (default 300) of each format are drawn at random, and the examples of tests/data/examples are
read. The tokenizer is `bytes`: a byte is a token, and so is each special token. Exit status 1 if any
count differs.
"""
import json
import os
import random
import subprocess
import sys
import tempfile

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "examples")
WORDS = ["braid", "strand", "Zöpfe", "結び目", "", "a\n b", "<think>", "😀", "  ", "\u2028"]
DSML = "｜DSML｜"


def size(text):
    return len(text.encode())


def call_tokens(calls):
    """The block of calls: each mark is one token, all else bytes."""
    lines = []
    marks = 2
    for call in calls:
        function = call.get("function", call)
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        parameters = []
        for name, value in arguments.items():
            string = isinstance(value, str)
            shown = value if string else json.dumps(value, ensure_ascii=False)
            kind = "true" if string else "false"
            parameters.append(f'<parameter name="{name}" string="{kind}">{shown}</parameter>')
            marks += 2
        lines.append(f'<invoke name="{function["name"]}">\n' + "\n".join(parameters) + "\n</invoke>\n")
        marks += 2
    return size("\n\n<tool_calls>\n" + "".join(lines) + "</tool_calls>") + marks


def answer_parts(message, thinking):
    tokens = size(message.get("content") or "")
    if thinking:
        tokens += size(message.get("reasoning_content") or "") + 1
    if message.get("tool_calls"):
        tokens += call_tokens(message["tool_calls"])
    return tokens


def conversation(messages, tools, sample_weight, options):
    answers = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    reasons = bool(messages[answers[-1]].get("reasoning_content"))
    thinking = {"on": True, "off": False, "auto": reasons}[options["thinking"]]
    questions = [i for i, m in enumerate(messages) if m["role"] in ("user", "developer", "tool")]
    drops = thinking and not tools
    weights = []
    for i in answers:
        weight = messages[i].get("weight", 1)
        weights.append(0 if drops and i < questions[-1] else weight)
    if options["mask_history"]:
        trained = [k for k, weight in enumerate(weights) if weight > 0]
        weights = [w if trained and k == trained[-1] else 0 for k, w in enumerate(weights)]
    count = total = 0
    for k, i in enumerate(answers):
        with_reasoning = thinking and (not drops or i > questions[-1])
        if weights[k] > 0:
            tokens = answer_parts(messages[i], with_reasoning)
            count += tokens
            total += tokens * weights[k]
        on = options["train_on_eos"]
        if on == "all" or (on == "turn" and weights[k] > 0) or (on == "last" and i == answers[-1]):
            count += 1
            total += weights[k] if weights[k] > 0 else 1
    return (count, total * sample_weight) if sample_weight > 0 else (0, 0)


def as_messages(value, role):
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return value if isinstance(value, list) else [value]


def sharegpt(row):
    roles = {"human": "user", "gpt": "assistant", "observation": "tool", "system": "system"}
    messages = []
    for turn in row["conversations"]:
        if turn["from"] == "function_call":
            calls = json.loads(turn["value"])
            calls = calls if isinstance(calls, list) else [calls]
            messages.append({"role": "assistant", "content": "", "tool_calls": calls})
        else:
            messages.append({"role": roles[turn["from"]], "content": turn["value"]})
    return messages


def alpaca(row):
    messages = []
    for question, answer in row.get("history", []):
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages + [{"role": "user", "content": ""}, {"role": "assistant", "content": row["output"]}]


def ids(row):
    numbers = row.get("input_ids", row.get("ids"))
    if "labels" in row:
        weights = [0 if label == -100 else 1 for label in row["labels"]]
    elif "loss_mask" in row:
        weights = row["loss_mask"]
    else:
        weights = [0] * (len(numbers) + 1)
        for span in row.get("targets", [[0, len(numbers) + (numbers[-1] != 1)]]):
            for i in range(span[0], span[1]):
                weights[i] = span[2] if len(span) == 3 else 1
    weights = weights[1:] if numbers[0] == 0 else weights
    return sum(weight > 0 for weight in weights), sum(weights) * row.get("weight", 1)


def counted(row, kind, options):
    weight = row.get("weight", 1)
    tools = row.get("tools")
    if kind == "tokens":
        return ids(row)
    if kind == "text":
        return size(row["text"]) + 1, size(row["text"]) + 1
    if kind == "preference":
        parts = []
        for key in ("chosen", "rejected"):
            messages = as_messages(row["prompt"], "user") + as_messages(row[key], "assistant")
            parts.append(conversation(messages, tools, weight, options))
        return tuple(map(sum, zip(*parts)))
    messages = {"messages": lambda: row["messages"],
                "sharegpt": lambda: sharegpt(row),
                "alpaca": lambda: alpaca(row),
                "prompt": lambda: as_messages(row["prompt"], "user") +
                as_messages(row["completion"], "assistant")}[kind]()
    return conversation(messages, tools, weight, options)


def words(draw):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 8))) + "."


def drawn_messages(draw):
    messages = [{"role": "system", "content": words(draw)}] if draw.random() < 0.3 else []
    for _ in range(draw.randint(1, 4)):
        messages.append({"role": "user", "content": words(draw)})
        if draw.random() < 0.2:
            calls = [{"id": str(i), "type": "function",
                      "function": {"name": "f", "arguments": json.dumps(
                          {"x": words(draw), "n": draw.randint(-5, 5), "l": [1.5, None, "ü"]})}}
                     for i in range(draw.randint(1, 3))]
            messages.append({"role": "assistant", "content": words(draw), "tool_calls": calls})
            messages += [{"role": "tool", "tool_call_id": call["id"], "content": words(draw)}
                         for call in calls]
        answer = {"role": "assistant", "content": words(draw)}
        if draw.random() < 0.4:
            answer["reasoning_content"] = words(draw)
        if draw.random() < 0.3:
            answer["weight"] = draw.choice([0, 0.5, 1, 2])
        messages.append(answer)
    return messages


def drawn(kind, draw):
    row = {} if draw.random() < 0.7 else {"weight": draw.choice([0.25, 0.5, 2])}
    if kind == "messages":
        row["messages"] = drawn_messages(draw)
        if draw.random() < 0.2:
            row["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    elif kind == "sharegpt":
        row["conversations"] = [{"from": source, "value": words(draw)}
                                for source in ["human", "gpt"] * draw.randint(1, 3)]
    elif kind == "alpaca":
        row.update(instruction=words(draw), input=words(draw), output=words(draw),
                   history=[[words(draw), words(draw)] for _ in range(draw.randint(0, 2))])
    elif kind == "prompt":
        row.update(prompt=words(draw), completion=words(draw))
    elif kind == "preference":
        row.update(prompt=words(draw), chosen=words(draw), rejected=words(draw))
    elif kind == "text":
        row = {"text": words(draw)}
    else:
        numbers = [draw.randint(3, 319) for _ in range(draw.randint(3, 30))]
        row["input_ids"] = [0] + numbers if draw.random() < 0.5 else numbers
        length = len(row["input_ids"])
        which = draw.choice(["labels", "loss_mask", "targets", None])
        if which == "labels":
            row["labels"] = [number if draw.random() < 0.7 else -100 for number in row["input_ids"]]
        elif which == "loss_mask":
            row["loss_mask"] = [draw.choice([0, 1, 0.5]) for _ in range(length)]
        elif which == "targets":
            row["targets"] = [[1, 2], [2, length + draw.randint(0, 1), 0.5]]
    return row


def compare(braid, path, rows, kind, options):
    command = [braid, "render", path, "--check", "--json", "--set", f"data.format={kind}"]
    for key, value in options.items():
        command += ["--set", f"data.{key}={json.dumps(value)}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    seen = json.loads(done.stdout)
    want = [counted(row, kind, options) for row in rows]
    count, weight = sum(w[0] for w in want), sum(w[1] for w in want)
    same = seen["trained_tokens"] == count and abs(seen["trained_weight"] - weight) < 1e-3 * weight
    print(f"{kind:10} {os.path.basename(path):18} {len(rows):5} samples  "
          f"{seen['trained_tokens']:8} trained, here {count:8}  weight {seen['trained_weight']:.6g}, "
          f"here {weight:.6g}  {'same' if same else 'DIFFERENT'}  {options}")
    return same


def main():
    braid = sys.argv[1]
    samples = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    plain = {"thinking": "auto", "train_on_eos": "turn", "mask_history": False}
    variants = [plain, {**plain, "thinking": "on"}, {**plain, "thinking": "off"},
                {**plain, "train_on_eos": "all"}, {**plain, "train_on_eos": "last"},
                {**plain, "train_on_eos": "none"}, {**plain, "mask_history": True}]
    draw = random.Random(1)
    same = True
    for kind in ["messages", "sharegpt", "alpaca", "prompt", "preference", "tokens", "text"]:
        example = os.path.join(EXAMPLES, kind + ".jsonl")
        with open(example, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        same &= compare(braid, example, rows, kind, plain)
        rows = []
        while len(rows) < samples:
            row = drawn(kind, draw)
            if all(counted(row, kind, options)[0] > 0 for options in variants):
                rows.append(row)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "drawn.jsonl")
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=draw.random() < 0.5) + "\n" for row in rows)
            for options in variants if kind != "tokens" and kind != "text" else [plain]:
                same &= compare(braid, path, rows, kind, options)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
