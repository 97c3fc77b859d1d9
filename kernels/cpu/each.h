#pragma once
#include "kernels/cpu/threads.h"
