"""Prompt tuning, prefix tuning and p-tuning, through PEFT: learned tokens in front of each document."""
